"""Trained models as graphs that run without torch: ONNX and OpenVINO.

Every graph takes pixels (N, 3, S, S) float32 RGB in [0, 255] and holds its own normalisation.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models.anomaly.autoencoder import Autoencoder, Network
from pipeline.models.anomaly.detector import load_anomaly_model
from pipeline.models.anomaly.patchcore import PatchCore
from pipeline.models.artifact import TENSORS, model_kind, read_artifact
from pipeline.models.cards import ClassifierCard, RetrievalCard
from pipeline.models.classifier.network import ImageClassifier, classifier_from_artifact
from pipeline.models.features.backbones import MEAN, STD
from pipeline.models.features.patches import BackboneFeatures
from pipeline.models.openvino_offline import load_openvino, openvino_core
from pipeline.models.segmentation.model import DefectSegmenter, load_defect_segmenter
from pipeline.models.tensors import as_weights_error
from pipeline.models.yolo_world.detector import YoloWorldDetector, load_finetuned

Format = Literal["onnx", "openvino"]
_SQUEEZED = "RGB in [0, 255], the image squeezed to a square, area averaged"
_SEGMENTER_SIDE = 512  # pixels of the input: twice a training crop
_TOLERANCE = 1e-2  # of the largest value, by which a graph may differ from torch


@dataclass(frozen=True)
class Signature:
    """The input and the output of a graph.

    output: in words. pixels: how an image becomes the input. categories: in the order of the
    output. confidence: of a detector or segmenter, the score below which objects are left out.
    """

    output: str
    pixels: str = _SQUEEZED
    categories: tuple[str, ...] | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class ExportedGraph:
    """A graph file that was run once. input: its shape. largest_difference: from torch's output, as
    a share of its largest value."""

    file: str
    input: tuple[int, ...]
    signature: Signature
    largest_difference: float


class _Normalised(nn.Module):
    """Pixels in [0, 255], normalised as ImageNet's backbones expect, then a network."""

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
    """Features to the distance of each patch to the nearest in the memory bank."""

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
    """Adaptive max pooling by slices: ONNX has none for sizes that do not divide evenly."""

    def __init__(self, pool: nn.AdaptiveMaxPool2d) -> None:
        super().__init__()
        self.size: Any = pool.output_size

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        rows, columns = (
            [(n * side // count, -(-(n + 1) * side // count)) for n in range(count)]
            for side, count in zip(maps.shape[2:], self.size, strict=True)
        )
        places = [maps[:, :, y0:y1, x0:x1].amax((2, 3)) for y0, y1 in rows for x0, x1 in columns]
        pooled: torch.Tensor = torch.stack(places, dim=2).unflatten(2, self.size)
        return pooled


class _Detected(nn.Module):
    """Pixels to a detector's boxes and scores, before non-maximum suppression."""

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


class _Reconstructed(nn.Module):
    """Pixels to an autoencoder's error map."""

    def __init__(self, model: Autoencoder, network: Network) -> None:
        super().__init__()
        self.model, self.network = model, network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pictures = pixels / 255
        return self.model.error_map(self.network(pictures)[0], pictures)


class _MeanProbabilities(nn.Module):
    """Pixels to the mean of the probabilities of a segmenter's networks."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        shares = [network(pixels).softmax(dim=1) for network in self.networks]
        return torch.stack(shares).mean(dim=0)


def build_graph(folder: Path) -> tuple[nn.Module, int, Signature]:
    """A saved model as one network, the side of its input, and its signature.

    Raises ConfigError for models that no single graph holds, DataError, WeightsError.
    """
    cpu = torch.device("cpu")
    kind = model_kind(folder)
    if kind == "yolo-world":
        return _detector_graph(load_finetuned(folder, device="cpu"))
    if kind == "sam":
        raise ConfigError(f"{folder}: SAM has no single graph; use segment --backend openvino")
    if kind == "segmenter":
        return _segmenter_graph(load_defect_segmenter(folder, cpu))
    card, state = read_artifact(folder)
    if isinstance(card, RetrievalCard):
        raise ConfigError(f"{folder}: a retrieval module reads texts, which no single graph holds")
    if isinstance(card, ClassifierCard):
        with as_weights_error(folder / TENSORS):
            classifier: ImageClassifier = classifier_from_artifact(card, state, cpu)
        parts = (classifier.backbone.trunk, classifier.backbone.head, nn.Softmax(dim=1))
        signature = Signature("probabilities", categories=classifier.categories)
        return _Normalised(nn.Sequential(*parts)), classifier.image_side, signature
    model = load_anomaly_model(folder, cpu)
    if isinstance(model, Autoencoder) and model.network is not None:
        signature = Signature(f"{model.error} error of each pixel, before its blur")
        return _Reconstructed(model, model.network), model.side, signature
    if (
        isinstance(model, PatchCore)
        and model.bank is not None
        and isinstance(model.features, BackboneFeatures)
    ):
        bank = torch.from_numpy(model.bank.vectors)
        signature = Signature("distance of each patch of 8 pixels, before its blur")
        return _Normalised(_NearestPatch(model.features, bank)), model.features.side, signature
    raise ConfigError(f"{folder}: PatchCore over a SAM's embeddings has no single graph")


def _detector_graph(detector: YoloWorldDetector) -> tuple[nn.Module, int, Signature]:
    """YOLO-World with its category names built in."""
    signature = Signature(
        output="(N, 4 + C, A): centre x, y, width and height in pixels of the input, and the score"
        " of each category, at A places; apply non-maximum suppression at IoU"
        f" {detector.nms_iou}",
        pixels="RGB in [0, 255], the longer side resized to the input's, and grey (114) on both"
        " sides of the shorter",
        categories=detector.categories,
        confidence=detector.confidence,
    )
    return _Detected(detector.exportable()), detector.image_side, signature


def _segmenter_graph(model: DefectSegmenter) -> tuple[nn.Module, int, Signature]:
    """All networks of a segmenter as one. The command itself adds flips, which a graph leaves
    out."""
    options = model.region_options
    signature = Signature(
        output="(N, 1 + C, S, S): probability of background, and of each category, at each pixel;"
        f" a pixel is of a defect where 1 - background is {options.threshold:g} or more; parts with"
        f" at most {options.bridge_gap} pixels between them are one region; regions below"
        f" {options.min_area} pixels, or with a lower mean than the confidence, are left out",
        pixels=f"RGB in [0, 255], a square part of the image resized by {model.scale:g}"
        f" ({'area averaged' if model.scale < 1 else 'linear'}), and mirrored where it is smaller",
        categories=model.categories,
        confidence=model.confidence,
    )
    networks = [member.network for member in model.members]
    return _MeanProbabilities(networks), _SEGMENTER_SIDE, signature


def export_graph(folder: Path, target: Path, form: Format) -> ExportedGraph:
    """Write model.onnx, or model.xml and model.bin, into `target`, and run it once by OpenVINO.
    Raises ConfigError as `build_graph`, and if the output differs from torch's."""
    network, side, signature = build_graph(folder)
    network.eval()
    openvino = load_openvino()
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    path = target / ("model.onnx" if form == "onnx" else "model.xml")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, on what is constant here
        expected = network(pixels).numpy()
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
    result = openvino_core().compile_model(str(path), "CPU", options)(pixels.numpy())[0]
    difference = float(np.abs(result - expected).max() / max(np.abs(expected).max(), 1e-12))
    if difference > _TOLERANCE:
        raise ConfigError(f"{path}: the graph's output is off by {difference:.3g}; use torch")
    return ExportedGraph(path.name, (1, 3, side, side), signature, difference)
