"""The nouns of the pipeline, and what each kind of model promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.masks import Rle, bounding_boxes
from pipeline.io.image_header import PIXEL_LIMIT, SIDE_LIMIT
from pipeline.io.images import Image, Mask
from pipeline.io.names import leaves_its_folder
from pipeline.io.read import shown_value

GOOD = "good"
SPLITS = ("train", "val", "test")
EXPECTED_IOU = "expected_iou"  # the quality column of a calibrated segmenter


@dataclass(frozen=True)
class Detections:
    """The objects of one image, a row each.

    boxes: (N, 4) float32 xyxy pixels, half-open. labels: (N,) int indices into the categories.
    scores: (N,) float32 in [0, 1], or None for ground truth. masks: N RLEs, or None.
    quality: named (N, ...) columns that a stage adds, such as `predicted_iou`.
    Raises ValueError when the columns differ in length.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None
    masks: tuple[Rle, ...] | None = None
    quality: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = [self.labels, *self.quality.values()]
        columns += [] if self.scores is None else [self.scores]
        lengths = {len(column) for column in columns}
        lengths |= set() if self.masks is None else {len(self.masks)}
        if lengths != {len(self.boxes)}:
            raise ValueError(f"columns of {sorted(lengths)} rows for {len(self.boxes)} boxes")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> Detections:
        """An image without objects."""
        return cls(as_boxes([]), np.zeros(0, dtype=np.int64), masks=())

    @classmethod
    def from_masks(cls, masks: Sequence[Rle], label: int) -> Detections:
        """Ground truth from masks of one category; boxes are the masks' own."""
        labels = np.full(len(masks), label, dtype=np.int64)
        return cls(bounding_boxes(masks), labels, masks=tuple(masks))

    def select(self, rows: NDArray[np.generic] | Sequence[int]) -> Detections:
        """The rows named by an index or a boolean array, in that order."""
        chosen = np.asarray(rows, dtype=None if len(rows) else np.int64)  # [] would be of floats
        index = np.arange(len(self))[chosen]
        return replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            scores=None if self.scores is None else self.scores[index],
            masks=None if self.masks is None else tuple(self.masks[i] for i in index),
            quality={name: column[index] for name, column in self.quality.items()},
        )

    @property
    def trust(self) -> Mapping[str, NDArray[np.float32]]:
        """The columns (N,) that say how far to trust each object, best first: the IoU to expect of
        its mask, its score; none of a truth."""
        known = {EXPECTED_IOU: self.quality.get(EXPECTED_IOU), "score": self.scores}
        return {k: v.astype(np.float32) for k, v in known.items() if v is not None}


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a set. `path` is where it lies now; `file_name` is its name inside the set.

    `source_split` is the split of the source it came from; `split` the one it is used for (train,
    val, test); `group` keeps pictures of one object together. `mask_path` is None for good images.
    Raises ValueError for a `file_name` that leaves its folder, for files are written by it, and for
    sides that no image has.
    """

    id: int
    path: Path
    file_name: str
    height: int
    width: int
    product: str = ""
    source_split: str = ""
    defect: str = GOOD
    mask_path: Path | None = None
    group: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        name = self.file_name
        if leaves_its_folder(name) or name == "." or name.endswith(("/", "/.")):
            raise ValueError(f"file_name {shown_value(name)} leaves its folder, or names no file")
        most, least = max(self.height, self.width), min(self.height, self.width)
        if least < 1 or most > SIDE_LIMIT or least * most > PIXEL_LIMIT:
            raise ValueError(f"it is listed as {self.width}x{self.height} pixels: no such image")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width


def split_of(file_name: str) -> str:
    """The split that an image's one folder says it is in: train, val or test; empty for others,
    such as MVTec's test/<defect>, which is no split."""
    folder = file_name.rpartition("/")[0]
    return folder if folder in SPLITS else ""


def refuse_equal_stems(named: Iterable[tuple[str, Path]]) -> None:
    """Raise DataError for two images (name, path) whose names differ in the suffix alone: masks,
    labels and pictures that are written by an image's name would be one file."""
    seen: dict[str, Path] = {}
    for name, path in named:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in seen:
            raise DataError(path, f"has the same name as {seen[stem]}", "rename one")
        seen[stem] = path


@dataclass(frozen=True)
class Dataset:
    """Images by record and what is on them by image id; pixels stay on disk.

    categories: names in label order; COCO's category id is label + 1.
    """

    categories: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    objects: Mapping[int, Detections] = field(default_factory=dict)

    def on(self, record: ImageRecord) -> Detections:
        """The objects of one image; an image that nothing was said of has none."""
        return self.objects.get(record.id, Detections.none())

    def refuse_equal_stems(self) -> None:
        """See `refuse_equal_stems`."""
        refuse_equal_stems((record.file_name, record.path) for record in self.records)

    def subset(self, records: Sequence[ImageRecord]) -> Dataset:
        """The same categories over some of the images."""
        kept = {record.id for record in records}
        objects = {key: value for key, value in self.objects.items() if key in kept}
        return Dataset(self.categories, tuple(records), objects)


@dataclass(frozen=True)
class Masks:
    """A segmenter's answer: exactly one row per box, in the boxes' order.

    masks: N RLEs (an empty one where it failed). failed: (N,) bool. quality: named columns (N,)
    float32 in [0, 1], such as `predicted_iou`; none where the segmenter has no opinion.
    """

    masks: tuple[Rle, ...]
    failed: NDArray[np.bool_]
    quality: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class AnomalyMap:
    """How far an image is from good ones: heatmap (H, W) float32 of the image's own size, and
    score, one number for the whole image; both are 0 or more, higher where less like good ones."""

    score: float
    heatmap: NDArray[np.float32]


class AnomalyModel(Protocol):
    """Learns from good images (HWC uint8 RGB) alone what is not as they are."""

    kind: str

    def fit(self, images: Iterable[Image]) -> None:
        """Learn from good images, which are read once. Raises ConfigError for none."""
        ...

    def score(self, image: Image) -> AnomalyMap:
        """What is not as in the good images. Raises ConfigError before `fit`."""
        ...

    def save(self, folder: Path) -> None:
        """Write model.safetensors and card.json, which `anomaly.load_anomaly_model` reads."""
        ...


class Detector(Protocol):
    """Finds objects on one image (HWC uint8 RGB) of any size."""

    categories: tuple[str, ...]

    def detect(self, image: Image) -> Detections:
        """Boxes with labels and scores, best first."""
        ...

    def heatmap(self, image: Image) -> NDArray[np.float32] | None:
        """Heat map (H, W) that the boxes of `detect` come from, 0 or more; None for a detector
        that has none."""
        ...


class Segmenter(Protocol):
    """Turns boxes on one image (HWC uint8 RGB) into masks."""

    def segment(self, image: Image, boxes: Boxes) -> Masks:
        """One mask per box, in order; failed ones are marked, never dropped."""
        ...


class PromptedSegmenter(Protocol):
    """A segmenter that also heeds where a heat map (H, W) is highest inside a box."""

    def segment(
        self, image: Image, boxes: Boxes, heatmap: NDArray[np.float32] | None = None
    ) -> Masks:
        """One mask per box, in order; failed ones are marked, never dropped."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Names what is on a whole image (HWC uint8 RGB)."""

    categories: tuple[str, ...]

    def classify(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, C) probabilities that sum to 1 in each row."""
        ...

    def save(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Write model.safetensors and card.json, with what `card` adds."""
        ...


__all__ = [
    "GOOD",
    "AnomalyMap",
    "AnomalyModel",
    "Boxes",
    "Classifier",
    "Dataset",
    "Detections",
    "Detector",
    "Image",
    "ImageRecord",
    "Mask",
    "Masks",
    "PromptedSegmenter",
    "Rle",
    "Segmenter",
]
