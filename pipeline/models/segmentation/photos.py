"""Labelled photos at the size at which a network sees them, and where their objects are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle, to_patch
from pipeline.io.images import read_listed_image
from pipeline.types import Dataset, Detections, Image, ImageRecord

LabelMap = NDArray[np.int16]  # (H, W) 0 for background, else 1 + the category's number
_MEMORY = 1 << 30  # bytes of photos that are kept in memory
_THIN, _WIDE = 0.1, 0.9  # shares of the defects that are narrower than those which decide the scale
_THIN_WIDTH = (
    8.0  # pixels that a thin defect keeps on the network's input, where the photo has them
)
_WIDE_WIDTH = 100.0  # pixels that a wide one has there, so that a crop holds as much around it
_SHRUNK_SIDE = 256.0  # pixels of a photo's longer side, below which none is shrunk
_ENLARGED_SIDE = 1024.0  # and beyond which none is enlarged
_MOST = 1.5  # by which a photo is enlarged at most


@dataclass(frozen=True)
class LabelledPhoto:
    """An image and its objects, whose masks are of the image's own size."""

    record: ImageRecord
    objects: Detections

    @property
    def group(self) -> str:
        """Photos of one object share it."""
        return self.record.group or self.record.file_name


def photos_of(datasets: Sequence[Dataset]) -> list[LabelledPhoto]:
    """Every image, those without an object among them."""
    return [LabelledPhoto(record, each.on(record)) for each in datasets for record in each.records]


def defect_width(mask: Rle) -> float:
    """The widest place of a mask in pixels: the diameter of the largest disc about a pixel that it
    holds; 0 for an empty one."""
    pixels = np.pad(to_patch(mask).pixels.astype(np.uint8), 1)
    if pixels.size <= 4:
        return 0.0
    return 2 * float(cv2.distanceTransform(pixels, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()) - 1


def choose_scale(photos: Sequence[LabelledPhoto]) -> float:
    """By how much photos are resized before a network sees them, in (0, 1.5].

    Of ten defects the ninth in width gets 100 pixels: larger ones show too little around them in a
    crop, and of smaller ones the outline is coarse. The first keeps 8 where it has them. A photo is
    shrunk to a longer side of 256 pixels at least, and enlarged to one of 1024 at most.
    """
    widths = [defect_width(mask) for photo in photos for mask in photo.objects.masks or ()]
    if not widths:
        return 1.0
    longest = float(np.median([max(photo.record.size) for photo in photos]))
    thin, wide = np.maximum(np.quantile(widths, [_THIN, _WIDE]), 1.0)
    scale = max(_WIDE_WIDTH / wide, min(_THIN_WIDTH / thin, 1.0))
    least = min(_SHRUNK_SIDE / longest, 1.0)
    return float(np.clip(scale, least, np.clip(_ENLARGED_SIDE / longest, 1.0, _MOST)))


class ScaledPhotos:
    """Photos and label maps at one scale. The last ones stay in memory, 1 GB at most."""

    def __init__(self, photos: Sequence[LabelledPhoto], scale: float) -> None:
        self.photos, self.scale = photos, scale
        self._kept: OrderedDict[int, tuple[Image, LabelMap]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.photos)

    def size(self, row: int) -> tuple[int, int]:
        """(height, width) of a scaled photo."""
        return scaled_size(self.photos[row].record.size, self.scale)

    def get(self, row: int) -> tuple[Image, LabelMap]:
        """The scaled image (H, W, 3) and its label map (H, W). Raises DataError for an image that
        cannot be read or has another size than listed."""
        if row in self._kept:
            self._kept.move_to_end(row)
            return self._kept[row]
        photo = self.photos[row]
        image = scaled(read_listed_image(photo.record.path, photo.record.size), self.scale)
        height, width = image.shape[:2]
        own = label_map(photo.objects, photo.record.size)
        resized = cv2.resize(own, (width, height), interpolation=cv2.INTER_NEAREST)
        labels: LabelMap = np.asarray(resized, np.int16)
        self._kept[row] = image, labels
        self._bytes += image.nbytes + labels.nbytes
        while self._bytes > _MEMORY and len(self._kept) > 1:
            _, (old, old_labels) = self._kept.popitem(last=False)
            self._bytes -= old.nbytes + old_labels.nbytes
        return self._kept[row]


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """(height, width) of an image at a scale, at least one pixel each."""
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def scaled(image: Image, scale: float) -> Image:
    """An image (H, W, 3), resized; itself for a scale of 1."""
    height, width = scaled_size((image.shape[0], image.shape[1]), scale)
    if (height, width) == image.shape[:2]:
        return image
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=smooth), np.uint8)


def label_map(objects: Detections, size: tuple[int, int]) -> LabelMap:
    """The label map of an image's objects; of objects that overlap, the smaller is on top."""
    labels = np.zeros(size, np.int16)
    masks = objects.masks or ()
    for row in sorted(range(len(masks)), key=lambda row: -mask_geometry.area(masks[row])):
        patch = to_patch(masks[row])
        x0, y0, x1, y1 = patch.box
        labels[y0:y1, x0:x1][patch.pixels] = 1 + int(objects.labels[row])
    return labels


def with_masks(photos: Sequence[LabelledPhoto], count: int, seed: int) -> list[LabelledPhoto]:
    """The good photos, and photos of defects in random order until they have `count` masks."""
    defective = [row for row, photo in enumerate(photos) if len(photo.objects)]
    chosen: set[int] = set()
    masks = 0
    for place in np.random.default_rng(seed).permutation(len(defective)).tolist():
        if masks >= count:
            break
        chosen.add(defective[place])
        masks += len(photos[defective[place]].objects)
    return [photo for row, photo in enumerate(photos) if not len(photo.objects) or row in chosen]
