"""Masks that are JPEG: the threshold that leaves out what JPEG adds around defects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.layouts.listing import Listed
from pipeline.geometry.lossy_masks import (
    Counts,
    counted,
    flat_counted,
    modes,
    threshold_between,
)
from pipeline.io.mask_files import MaskSource, is_lossy, read_label_values, read_mask_values
from pipeline.types import ImageRecord

_LEAST_VALUE, _LEAST_DRAWN = 64, 0.05  # a second value of defects: lower ones are soft edges
_BRIGHT = 128  # of a channel of a colour
_LEAST_SHARE = 0.01  # of the coloured pixels, for a second colour
_NO_COUNT = np.zeros(256, np.int64)


def with_thresholds(listed: Sequence[Listed]) -> list[Listed]:
    """The images, whose JPEG masks have one threshold for all: half-way between background and
    defects."""
    paths = {mask.path for entry in listed for mask in entry.masks if _is_cut(mask)}
    lossy = {path for path in sorted(paths) if _is_jpeg(path)}
    if not lossy:
        return list(listed)
    threshold = _threshold(sorted(lossy))

    def cut(mask: MaskSource) -> MaskSource:
        is_cut = _is_cut(mask) and mask.path in lossy
        return replace(mask, threshold=threshold) if is_cut else mask

    return [replace(entry, masks=tuple(map(cut, entry.masks))) for entry in listed]


def threshold_of(path: Path) -> int:
    """The threshold that `with_thresholds` chooses for one mask file alone; 0 for one that is not
    JPEG. Raises DataError for a file that cannot be read."""
    return _threshold([path]) if is_lossy(path) else 0


def _threshold(paths: Sequence[Path]) -> int:
    """Half-way from background to the lowest value that defects are drawn in."""
    threshold = threshold_between(sum_of(paths))
    try:
        values = modes(sum_of(paths, inside_regions=True), _LEAST_DRAWN)
    except ValueError:
        return threshold
    return min(threshold, *(value // 2 for value in values if value >= _LEAST_VALUE), threshold)


def _is_cut(mask: MaskSource) -> bool:
    return not (mask.runs or mask.values or mask.is_numbered)


def sum_of(paths: Sequence[Path], inside_regions: bool = False) -> Counts:
    """How many pixels of all masks have each value. What cannot be read is left to the reader of
    the masks."""

    def one(path: Path) -> Counts:
        try:
            values = read_mask_values(path)
        except DataError:
            return _NO_COUNT
        return flat_counted(values) if inside_regions else counted(values)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return np.asarray(sum(pool.map(one, paths), _NO_COUNT))


def _is_jpeg(path: Path) -> bool:
    try:
        return is_lossy(path)
    except DataError:
        return False  # the reader of the masks says why


def jpeg_values(masks: Sequence[Path], folder: Path) -> tuple[list[Path], tuple[int, ...]]:
    """The JPEG masks among some, and the values that they had before. Raises DataError where these
    cannot be distinguished, and for colours."""
    lossy = [path for path in masks if _is_jpeg(path)]
    grey = [path for path in lossy if not _is_coloured(path)]
    try:
        return lossy, modes(sum_of(grey, inside_regions=True))
    except ValueError as error:
        remedy = "save them as PNG, or say --mask-values defect"
        raise DataError(folder, f"its masks are JPEG, and {error}", remedy) from error


def _is_coloured(path: Path) -> bool:
    """Whether a mask has a colour, which is then a defect. Raises DataError for several colours:
    JPEG keeps them at half the size."""
    try:
        values = read_label_values(path)
    except DataError:
        return False
    codes = sum(((values >> shift & 0xFF) >= _BRIGHT).astype(np.int64) << bit
                for bit, shift in enumerate((0, 8, 16)))  # fmt: skip
    shares = np.bincount((np.asarray(codes) * (values > 0xFFFF)).ravel(), minlength=8)[1:]
    if (shares >= max(shares.sum() * _LEAST_SHARE, 1)).sum() > 1:
        raise DataError(path, "is a JPEG of several colours, which are mixed", "save it as PNG")
    return bool(shares.any())


def threshold_notes(records: Sequence[ImageRecord], threshold: int | None) -> tuple[str, ...]:
    """A note on the threshold of JPEG masks, where the user gives none."""
    cut = [mask for record in records for mask in record.masks if mask.threshold]
    if threshold is not None or not cut:
        return ()
    count = len({mask.path for mask in cut})
    text = (
        f"{count} masks are JPEG, which adds values around defects: values above "
        f"{cut[0].threshold} are defect; another --mask-threshold cuts elsewhere"
    )
    return (text,)
