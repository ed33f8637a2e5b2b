"""Trained models as graphs that run without torch: ONNX and OpenVINO.

Every graph takes pixels (N, 3, S, S) float32 RGB in [0, 255] and holds its own normalisation.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.anomaly.autoencoder import Autoencoder, Network
from pipeline.models.anomaly.detector import load_anomaly_model
from pipeline.models.anomaly.patchcore import PatchCore
from pipeline.models.artifact import TENSORS, read_artifact
from pipeline.models.cards import fitting
from pipeline.models.classifier.network import ImageClassifier, restored
from pipeline.models.features.backbones import MEAN, STD
from pipeline.models.features.patches import BackboneFeatures
from pipeline.models.openvino_offline import load_openvino, openvino_core
from pipeline.models.yolo_world.detector import RUN_CARD, YoloWorldDetector, load_run

Format = Literal["onnx", "openvino"]
_SQUEEZED = "RGB in [0, 255], the image squeezed to a square, area averaged"
_TOLERANCE = 1e-2  # of the largest value, by which a graph may differ from torch


class _Normalised(nn.Module):
    """Pixels in [0, 255] as ImageNet's backbones know them, then a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("deviation", torch.tensor(STD).view(1, 3, 1, 1) * 255)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        answer: torch.Tensor = self.network((pixels - mean) / deviation)
        return answer


class _NearestPatch(nn.Module):
    """Features to the distance of each patch to the nearest of the memory bank."""

    def __init__(self, features: nn.Module, bank: torch.Tensor) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("bank", bank.T.contiguous())
        self.register_buffer("squares", bank.square().sum(dim=1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        grid = self.features(pixels).permute(0, 2, 3, 1)
        apart = self.get_buffer("squares") - 2 * (grid @ self.get_buffer("bank"))
        nearest: torch.Tensor = apart.amin(dim=3) + grid.square().sum(dim=3)
        return nearest.clamp(min=0).sqrt()


class _Pooled(nn.Module):
    """Adaptive max pooling from slices, for ONNX has none where sizes do not divide evenly."""

    def __init__(self, pool: nn.AdaptiveMaxPool2d) -> None:
        super().__init__()
        self.size: Any = pool.output_size

    def forward(self, found: torch.Tensor) -> torch.Tensor:
        rows, columns = (
            [(n * side // count, -(-(n + 1) * side // count)) for n in range(count)]
            for side, count in zip(found.shape[2:], self.size, strict=True)
        )
        places = [found[:, :, y0:y1, x0:x1].amax((2, 3)) for y0, y1 in rows for x0, x1 in columns]
        pooled: torch.Tensor = torch.stack(places, dim=2).unflatten(2, self.size)
        return pooled


class _Searched(nn.Module):
    """Pixels to a detector's boxes and scores, of which many mean the same object."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            for name, child in module.named_children():
                if isinstance(child, nn.AdaptiveMaxPool2d):
                    setattr(module, name, _Pooled(child))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.network(pixels / 255)
        return answer


class _Remade(nn.Module):
    """Pixels to an autoencoder's error map."""

    def __init__(self, model: Autoencoder, network: Network) -> None:
        super().__init__()
        self.model, self.network = model, network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pictures = pixels / 255
        return self.model.error_map(self.network(pictures)[0], pictures)


def build_graph(folder: Path) -> tuple[nn.Module, int, dict[str, Any]]:
    """A saved model as one network, the side of its input, and what its output is.

    Raises ConfigError for models that no single graph holds, DataError, WeightsError.
    """
    cpu = torch.device("cpu")
    if (folder / RUN_CARD).exists():
        return _detector_graph(load_run(folder, device="cpu"))
    card, state = read_artifact(folder)
    if card["kind"] == "classifier":
        with fitting(folder / TENSORS):
            classifier: ImageClassifier = restored(card, state, cpu)
        parts = (classifier.backbone.trunk, classifier.backbone.head, nn.Softmax(dim=1))
        told = {"output": "probabilities", "categories": list(classifier.categories)}
        return _Normalised(nn.Sequential(*parts)), classifier.image_side, told
    if card["kind"] == "rac":
        raise ConfigError(f"{folder}: a retrieval module reads texts, which no single graph holds")
    model = load_anomaly_model(folder, cpu)
    if isinstance(model, Autoencoder) and model.network is not None:
        told = {"output": f"{model.error} error of each pixel, before its blur"}
        return _Remade(model, model.network), model.side, told
    if (
        isinstance(model, PatchCore)
        and model.bank is not None
        and isinstance(model.features, BackboneFeatures)
    ):
        bank = torch.from_numpy(model.bank.vectors)
        told = {"output": "distance of each patch of 8 pixels, before its blur"}
        return _Normalised(_NearestPatch(model.features, bank)), model.features.side, told
    raise ConfigError(f"{folder}: PatchCore over a SAM's embeddings has no single graph")


def _detector_graph(detector: YoloWorldDetector) -> tuple[nn.Module, int, dict[str, Any]]:
    """YOLO-World with the texts it listens for built in."""
    told = {
        "output": "(N, 4 + C, A): centre x, y, width and height in pixels of the input, and each"
        " category's score, of A places that see one object more than once: choose by"
        f" non-maximum suppression, IoU {detector.nms_iou}",
        "confidence": detector.confidence,
        "categories": list(detector.categories),
        "pixels": "RGB in [0, 255], the longer side resized to the input's, and grey (114) to"
        " both sides of the shorter",
    }
    return _Searched(detector.exportable()), detector.image_side, told


def export_graph(folder: Path, target: Path, form: Format) -> dict[str, Any]:
    """Write model.onnx, or model.xml and model.bin, below `target`, run it once by OpenVINO, and
    tell how far its answer is from torch's. Raises ConfigError as `build_graph`, and where the two
    differ."""
    network, side, told = build_graph(folder)
    network.eval()
    openvino = load_openvino()
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    path = target / ("model.onnx" if form == "onnx" else "model.xml")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, on what is constant here
        wanted = network(pixels).numpy()
        if form == "onnx":
            torch.onnx.export(
                network, (pixels,), str(path), input_names=["pixels"], output_names=["answer"],
                dynamic_axes={"pixels": {0: "count"}, "answer": {0: "count"}}, dynamo=False,
            )  # fmt: skip
        else:
            shape = openvino.PartialShape([-1, 3, side, side])
            graph = openvino.convert_model(network, example_input=pixels, input=[shape])
            openvino.save_model(graph, str(path), compress_to_fp16=False)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino_core().compile_model(str(path), "CPU", options)(pixels.numpy())[0]
    off = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12))
    if off > _TOLERANCE:
        raise ConfigError(f"{path}: the graph's answer is off by {off:.3g}; use torch")
    shape = {"file": path.name, "input": [1, 3, side, side], "pixels": _SQUEEZED}
    return {**shape, **told, "largest_difference": off}
