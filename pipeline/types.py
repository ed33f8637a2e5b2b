"""The nouns of the pipeline.

`Dataset`, `Detections` and `Masks` are the public API: every reader returns a `Dataset`, every
writer takes one, and the objects of one image are a `Detections`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.masks import Rle, bounding_boxes, decode
from pipeline.io.image_header import PIXEL_LIMIT, SIDE_LIMIT
from pipeline.io.images import Image, Mask
from pipeline.io.mask_files import MaskSource
from pipeline.io.names import leaves_its_folder
from pipeline.io.read import shown_value

GOOD = "good"
SPLITS = ("train", "val", "test")
CROWD = "iscrowd"  # the column of objects that are regions which an evaluation ignores
EXPECTED_IOU = "expected_iou"  # the quality column of a calibrated segmenter
NAME_PROBABILITY = "name_probability"  # of labels of a labeller: is the category right?
PROBABILITY = "probability"  # the quality column of labels that a detector found: is it a defect?
FINDERS = ("segmenter", "detector", "anomaly", "person")  # who finds objects


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects of one image, one row each.

    boxes: (N, 4) float32, x0, y0, x1, y1 in pixels, half-open: x1 and y1 are the first pixel
    outside. labels: (N,) int64, indices into the categories of the dataset or model. scores: (N,)
    float32 in [0, 1]; None for ground truth. masks: N RLEs of the image's size; None for boxes
    without masks.

    quality: named columns (N,) float32 in [0, 1], higher is better, such as `expected_iou`.
    failed: (N,) bool, True where the segmenter found no mask; None where no segmenter ran.
    ids: (N,) int64, the annotation ids of the file that was read; a writer numbers rows again.
    prompt_ids: (N,) int64, the annotation whose box the row was segmented from. prompt_boxes:
    (N, 4) float32, that box, where `boxes` holds the box of the mask instead.
    finders: N names, who found each object, one of `FINDERS`; "" and None where it is not known.
    attributes: other named columns (N, ...) of a file: numbers that keep their dtype.

    Raises ValueError when the columns differ in length.

    Example: `Detections(as_boxes([[10, 20, 50, 60]]), np.array([0]))` is one object of the first
    category.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None
    masks: tuple[Rle, ...] | None = None
    quality: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    failed: NDArray[np.bool_] | None = None
    ids: NDArray[np.int64] | None = None
    prompt_ids: NDArray[np.int64] | None = None
    prompt_boxes: Boxes | None = None
    finders: tuple[str, ...] | None = None
    attributes: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns: list[NDArray[np.generic] | tuple[Rle, ...] | tuple[str, ...] | None] = [
            self.labels, self.scores, self.masks, self.failed, self.ids, self.prompt_ids,
            self.prompt_boxes, self.finders, *self.quality.values(), *self.attributes.values(),
        ]  # fmt: skip
        lengths = {len(column) for column in columns if column is not None}
        if lengths != {len(self.boxes)}:
            raise ValueError(f"columns of {sorted(lengths)} rows for {len(self.boxes)} boxes")

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def none(cls) -> Detections:
        """The detections of an image without objects."""
        return cls(as_boxes([]), np.zeros(0, dtype=np.int64), masks=())

    @classmethod
    def from_masks(cls, masks: Sequence[Rle], label: int) -> Detections:
        """Ground truth from masks of one category. Each box is the bounding box of its mask."""
        labels = np.full(len(masks), label, dtype=np.int64)
        return cls(bounding_boxes(masks), labels, masks=tuple(masks))

    def select(self, rows: NDArray[np.generic] | Sequence[int]) -> Detections:
        """The rows that an index array or a boolean array (N,) names, in that order.

        Example: `detections.select(detections.scores > 0.5)`.
        """
        chosen = np.asarray(rows, dtype=None if len(rows) else np.int64)  # [] would be of floats
        index = np.arange(len(self))[chosen]
        return replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            scores=None if self.scores is None else self.scores[index],
            masks=None if self.masks is None else tuple(self.masks[i] for i in index),
            quality={name: column[index] for name, column in self.quality.items()},
            failed=None if self.failed is None else self.failed[index],
            ids=None if self.ids is None else self.ids[index],
            prompt_ids=None if self.prompt_ids is None else self.prompt_ids[index],
            prompt_boxes=None if self.prompt_boxes is None else self.prompt_boxes[index],
            finders=None if self.finders is None else tuple(self.finders[i] for i in index),
            attributes={name: column[index] for name, column in self.attributes.items()},
        )

    @property
    def confidence_columns(self) -> Mapping[str, NDArray[np.float32]]:
        """The columns (N,) float32 in [0, 1] that estimate how good each object is, the better
        estimate first: `expected_iou` of its mask, then `score`. Empty for ground truth. A column
        that an object lacks (NaN), such as one that a person drew, is left out."""
        columns = {EXPECTED_IOU: self.quality.get(EXPECTED_IOU), "score": self.scores}
        known = {k: v for k, v in columns.items() if v is not None and not np.isnan(v).any()}
        return {k: v.astype(np.float32) for k, v in known.items()}

    @property
    def confidence(self) -> NDArray[np.float32] | None:
        """The first of `confidence_columns`; None for ground truth."""
        return next(iter(self.confidence_columns.values()), None)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a dataset; its pixels stay on disk.

    path: where the file is. file_name: the name inside the dataset, with `/` between folders.
    height, width: in pixels. source_split: the split that the source put the image in. split: the
    split that the image is used for (train, val or test). defect: the category of the whole image,
    or `good`. masks: where its masks are; none for a good image. group: images of one physical
    object share it, and never go to different splits.

    Raises ValueError for a `file_name` that leaves its folder, because files are written by it, and
    for sides that no image has.
    """

    id: int
    path: Path
    file_name: str
    height: int
    width: int
    product: str = ""
    source_split: str = ""
    defect: str = GOOD
    masks: tuple[MaskSource, ...] = ()
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
    """The split that an image's only folder names: train, val or test. Empty for another folder,
    such as MVTec's test/<defect>, which is not a split."""
    folder = file_name.rpartition("/")[0]
    return folder if folder in SPLITS else ""


def refuse_equal_stems(named: Iterable[tuple[str, Path]]) -> None:
    """Raise DataError for two images (name, path) whose names differ only in the suffix: their
    masks, labels and pictures, which are named after the image, would be one file."""
    paths: dict[str, Path] = {}
    for name, path in named:
        stem = str(PurePosixPath(name).with_suffix(""))
        if stem in paths:
            raise DataError(path, f"has the same name as {paths[stem]}", "rename one")
        paths[stem] = path


@dataclass(frozen=True)
class Dataset:
    """Images, and the objects on them.

    categories: names in label order; the category id in COCO is label + 1. records: the images.
    objects: `Detections` by image id; an image without an entry has no objects.

    Example: `sum(len(dataset.on(record)) for record in dataset.records)` counts the objects.
    """

    categories: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    objects: Mapping[int, Detections] = field(default_factory=dict)

    def on(self, record: ImageRecord) -> Detections:
        """The objects on one image."""
        return self.objects.get(record.id, Detections.none())

    def refuse_equal_stems(self) -> None:
        """See `refuse_equal_stems`."""
        refuse_equal_stems((record.file_name, record.path) for record in self.records)

    def subset(self, records: Sequence[ImageRecord]) -> Dataset:
        """The same categories with a part of the images."""
        ids = {record.id for record in records}
        objects = {key: value for key, value in self.objects.items() if key in ids}
        return Dataset(self.categories, tuple(records), objects)


@dataclass(frozen=True)
class Masks:
    """The result of a segmenter: exactly one row for each box, in the order of the boxes.

    masks: N RLEs of the image's size; an empty mask where the segmenter failed. failed: (N,) bool.
    quality: named columns (N,) float32 in [0, 1], such as `predicted_iou`; empty for a segmenter
    that estimates none.

    Example: `[area(rle) for rle in masks.masks]` is the number of pixels of each mask, with `area`
    of `pipeline.geometry.masks`.
    """

    masks: tuple[Rle, ...]
    failed: NDArray[np.bool_]
    quality: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def to_array(self) -> NDArray[np.bool_]:
        """(N, H, W) bool: the pixels of each mask. (0, 0, 0) without masks."""
        if not self.masks:
            return np.zeros((0, 0, 0), dtype=bool)
        return np.stack([decode(rle) for rle in self.masks])


@dataclass(frozen=True)
class AnomalyMap:
    """How much an image differs from good images.

    heatmap: (H, W) float32 of the image's own size. score: one number for the whole image. Both are
    0 or more; higher means more different.
    """

    score: float
    heatmap: NDArray[np.float32]


__all__ = [
    "EXPECTED_IOU",
    "GOOD",
    "NAME_PROBABILITY",
    "PROBABILITY",
    "SPLITS",
    "AnomalyMap",
    "Boxes",
    "Dataset",
    "Detections",
    "Image",
    "ImageRecord",
    "Mask",
    "Masks",
    "Rle",
]
