"""YOLO-World as a `Detector`: the open-vocabulary network with given text embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry.boxes import as_boxes
from pipeline.io.read import checked, read_json, sha256_of
from pipeline.io.write import write_json
from pipeline.models import ultralytics_offline
from pipeline.models.artifact import CARD, model_kind
from pipeline.models.backends import Backend, choose_backend
from pipeline.models.cards import DETECTOR_CARD, named_file
from pipeline.models.devices import choose_device, same_threads, torch_device
from pipeline.models.tensors import as_weights_error
from pipeline.models.text.embeddings import TextEmbeddings
from pipeline.models.yolo_world.inference import CompiledYoloWorld
from pipeline.types import Detections, Image

_CARD_OF_0_7 = "detector.json"
_KIND = "yolo-world"


class YoloWorldDetector:
    """Finds categories given by their text embeddings. A `Detector`."""

    def __init__(
        self,
        weights: Path,
        embeddings: TextEmbeddings,
        image_side: int = 640,
        confidence: float = 0.25,
        nms_iou: float = 0.6,
        device: str = "auto",
        max_boxes: int = 300,
        backend: Backend = "auto",
    ) -> None:
        """`image_side`: pixels to which the longer side of an image is resized. Boxes below
        `confidence`, and beyond the best `max_boxes`, are left out. Of two boxes with an IoU above
        `nms_iou` the better stays. backend: what runs the network.

        Raises WeightsError for a file that is not YOLO-World.
        """
        self.categories = embeddings.categories
        self.image_side, self.confidence, self.nms_iou = image_side, confidence, nms_iou
        self._max_boxes = max_boxes
        self._settings: dict[str, str | int | float | bool] = {
            "imgsz": image_side,
            "conf": confidence,
            "iou": nms_iou,
            "device": choose_device(device).split(",")[0],
            "max_det": max_boxes,
            "verbose": False,
            "save": False,
        }
        self._weights = weights
        self._model = load_yolo_world(weights)
        with as_weights_error(weights, "is not a YOLO-World checkpoint"):
            set_categories(self._model.model, embeddings)
        self._compiled: CompiledYoloWorld | None = None
        if choose_backend(backend, torch_device(device)) == "openvino":
            self._compiled = CompiledYoloWorld(self._model.model, image_side)

    def detect(self, image: Image) -> Detections:
        """Boxes with labels and scores, best first."""
        with as_weights_error(self._weights, "cannot be run"), same_threads():
            if self._compiled:
                rows = self._compiled.boxes(image, self.confidence, self.nms_iou, self._max_boxes)
            else:
                rows = self._rows(image)
        return Detections(as_boxes(rows[:, :4]), rows[:, 5].astype(np.int64), scores=rows[:, 4])

    def _rows(self, image: Image) -> NDArray[np.float32]:
        """(N, 6): box, score and label of each detection, by ultralytics."""
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        boxes = self._model.predict(bgr, **self._settings)[0].boxes
        return np.asarray(boxes.data.cpu().numpy(), np.float32)

    def heatmap(self, image: Image) -> None:
        """See `Detector`: there is none."""

    def exportable(self) -> torch.nn.Module:
        """The network with its texts, from pixels (N, 3, S, S) in [0, 1] to boxes and scores
        (N, 4 + C, A), as exporters can trace it. The detector cannot be used afterwards."""
        network = self._model.model.float().eval()
        network.model[-1].export, network.model[-1].format = True, "onnx"
        return cast(torch.nn.Module, network)


def load_yolo_world(weights: Path) -> Any:
    """ultralytics' model around a YOLO-World checkpoint. Raises WeightsError for anything else."""
    ultralytics = ultralytics_offline.load()
    if not weights.is_file():  # ultralytics would try to download it
        raise WeightsError(f"{weights}: no such file; run finetune-yolo or weights fetch")
    if weights.suffix != ".pt":  # ultralytics would build or run another network
        raise WeightsError(f"{weights}: is not a YOLO checkpoint; give a .pt file")
    with as_weights_error(weights, "is not a YOLO checkpoint"):
        model = ultralytics.YOLO(str(weights), task="detect")
    if not hasattr(model.model, "txt_feats"):
        raise WeightsError(f"{weights}: is a YOLO, but not a YOLO-World checkpoint")
    return model


def saved_text_embeddings(weights: Path) -> NDArray[np.float32]:
    """(M, 512) text embeddings in a checkpoint: CLIP's, of COCO's category names."""
    model = load_yolo_world(weights).model
    with as_weights_error(weights, "is not a YOLO-World checkpoint"):
        return np.asarray(model.txt_feats[0].float().numpy(), dtype=np.float32)


def set_categories(network: Any, embeddings: TextEmbeddings) -> None:
    """Make a WorldModel detect these categories and no others."""
    network.txt_feats = torch.from_numpy(embeddings.vectors)[None]
    network.model[-1].nc = len(embeddings.categories)
    network.names = dict(enumerate(embeddings.categories))


def write_card(
    run: Path,
    checkpoint: Path,
    sha256: str,
    image_side: int,
    base: str,
    confidence: float,
    chosen_on: Mapping[str, int] | None = None,
) -> None:
    """Write the card of a finetune-yolo folder, which `load_finetuned` reads. chosen_on: numbers of
    images and boxes that the confidence was chosen on."""
    card = {
        "kind": _KIND,
        "confidence": round(confidence, 4),
        "confidence_chosen_on": dict(chosen_on) if chosen_on else None,
        "checkpoint": checkpoint.relative_to(run).as_posix(),
        "sha256": sha256,
        "image_side": image_side,
        "base": base,
    }
    write_json(run / CARD, card)


def load_finetuned(
    run: Path, confidence: float | None = None, device: str = "auto", max_boxes: int = 300
) -> YoloWorldDetector:
    """The detector of a finetune-yolo folder, by default at the confidence that training chose.
    A folder of version 0.7, whose card is detector.json, is read too.

    Raises ConfigError for another folder, WeightsError for a checkpoint that was changed.
    """
    if model_kind(run) != _KIND:
        raise ConfigError(f"{run}: holds no detector; give the folder of finetune-yolo")
    path = run / CARD if (run / CARD).exists() else run / _CARD_OF_0_7
    card = checked(DETECTOR_CARD, read_json(path), path)
    checkpoint = named_file(run, card.checkpoint, path.name)
    if sha256_of(checkpoint) != card.sha256:
        raise WeightsError(f"{checkpoint}: is not the file that {path.name} names")
    return YoloWorldDetector(
        checkpoint,
        TextEmbeddings.load(embeddings_file(run)),
        image_side=card.image_side,
        confidence=card.confidence if confidence is None else confidence,
        device=device,
        max_boxes=max_boxes,
    )


def embeddings_file(run: Path) -> Path:
    """The text embeddings of a run: not in the trainer's folder, which DDP empties."""
    return run / "text_embeddings.safetensors"
