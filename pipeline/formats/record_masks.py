"""The instances and the defect pixels of one image, from its mask files, label maps or runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.geometry.hysteresis import without_tearing
from pipeline.geometry.lossy_masks import snapped
from pipeline.geometry.patches import Patch, has_grey_values, split_instances
from pipeline.io.mask_files import (
    COLOUR,
    MaskSource,
    is_lossy,
    read_label_values,
    read_mask_values,
)
from pipeline.types import ImageRecord, Mask


@dataclass(frozen=True)
class InstanceOptions:
    """How masks become instances. threshold: values above it are defect, see `without_tearing`;
    None for that of each mask. The others are those of `split_instances`; merge is for each
    category."""

    threshold: int | None = None
    merge: bool = False
    min_area: int = 0
    bridge_gap: int = 0


@dataclass(frozen=True)
class Region:
    """Pixels (H, W) of one category. is_grey: the file has several values there. torn, joined: see
    `SoftMask`. is_whole: one instance."""

    category: str
    pixels: Mask
    values: NDArray[np.uint8] | NDArray[np.uint16] | None = None
    torn: int = 0
    joined: int = 0
    is_whole: bool = False


@dataclass(frozen=True)
class Instances:
    """The instances of one image, each with its category. pixels: of the masks. specks: parts that
    were left out. torn, joined: see `SoftMask`."""

    patches: tuple[Patch, ...]
    categories: tuple[str, ...]
    pixels: int
    specks: int
    is_grey: bool
    torn: int
    joined: int


def read_instances(record: ImageRecord, options: InstanceOptions) -> Instances:
    """The instances of an image. Raises DataError for a mask that cannot be read, is of another
    size, or has a value that no category has."""
    patches: list[Patch] = []
    categories: list[str] = []
    pixels = specks = torn = joined = 0
    is_grey = False
    regions = _regions(record, options.threshold)
    for region in _merged(regions) if options.merge else regions:
        split, dropped = split_instances(
            region.pixels, options.merge or region.is_whole, options.min_area, options.bridge_gap
        )
        patches += split
        categories += [region.category] * len(split)
        pixels += int(np.count_nonzero(region.pixels))
        specks, torn, joined = specks + dropped, torn + region.torn, joined + region.joined
        is_grey |= region.values is not None and has_grey_values(region.values, split)
    return Instances(tuple(patches), tuple(categories), pixels, specks, is_grey, torn, joined)


def read_defect_mask(record: ImageRecord, threshold: int | None = None) -> Mask | None:
    """The defect pixels (H, W) of an image; None for an image without mask. See `read_instances`
    for what is raised."""
    if not record.masks:
        return None
    mask = np.zeros(record.size, dtype=bool)
    for region in _regions(record, threshold):
        mask |= region.pixels
    return mask


def value_name(value: int) -> str:
    """A value of a label map as text: a number, or #rrggbb for a colour."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


def _merged(regions: Iterator[Region]) -> Iterator[Region]:
    """One region for each category."""
    by_category: dict[str, Region] = {}
    for region in regions:
        if region.category in by_category:
            first = by_category[region.category]
            region = Region(  # noqa: PLW2901
                region.category, first.pixels | region.pixels, first.values,
                first.torn + region.torn, first.joined + region.joined,
            )  # fmt: skip
        by_category[region.category] = region
    yield from by_category.values()


def _regions(record: ImageRecord, threshold: int | None) -> Iterator[Region]:
    for source in record.masks:
        if source.runs:
            yield Region(source.category, _drawn_runs(source, record))
        elif source.values or source.is_numbered:
            yield from _of_label_map(source, record)
        else:
            values = read_mask_values(source.path, record.size, record.path.name)
            cut = source.threshold if threshold is None else threshold
            soft = without_tearing(values, cut)
            yield Region(
                source.category, soft.pixels, values, soft.torn, soft.joined, source.is_whole
            )


def _of_label_map(source: MaskSource, record: ImageRecord) -> Iterator[Region]:
    """One region for each value but 0 that has a name; of a numbered map, for each value."""
    values = label_values(source, record.size, record.path.name)
    names = dict(source.values)
    for value in np.unique(values).tolist():
        if source.is_numbered and value:
            yield Region(source.category, values == value, is_whole=True)
            continue
        name = names.get(value, None if value else "")
        if name is None:
            raise _no_name(source, value_name(value))
        if name:
            yield Region(name, values == value)


def label_values(
    source: MaskSource, size: tuple[int, int] | None = None, image: str = ""
) -> NDArray[np.int32]:
    """As `read_label_values`; of a JPEG the values that it had before. Raises DataError, also for a
    JPEG that does not tell them."""
    named = dict(source.values)
    greys = {value for value in named if value < COLOUR}
    are_colours = len(named) > len(greys) and all(
        named.get(COLOUR | grey * 0x010101) == named[grey] for grey in greys
    )  # with a palette's index 1, 1 is no colour
    values = read_label_values(source.path, size, image, are_colours)
    if not is_lossy(source.path):
        return values
    remedy = "save it as PNG"
    if source.is_numbered:
        raise DataError(source.path, "is JPEG, which keeps no numbers of instances", remedy)
    if values.max(initial=0) >= COLOUR:
        raise DataError(source.path, "is JPEG, which keeps no colours of categories", remedy)
    try:
        return snapped(values.astype(np.uint16), [0, *dict(source.values)])
    except ValueError as error:
        raise DataError(source.path, f"is JPEG, and {error}", remedy) from error


def _no_name(source: MaskSource, value: str) -> DataError:
    remedy = f"add {value}=NAME to --categories, or {value}= to leave it out"
    if source.table:
        remedy = f"add a row of {value} and its name to {source.table}; background is left out"
    return DataError(source.path, f"has value {value}, which no category has", remedy)


def _drawn_runs(source: MaskSource, record: ImageRecord) -> Mask:
    """The pixels (H, W) of Kaggle's runs: pairs of start and length, down the columns from 1."""
    height, width = record.size
    flat = np.zeros(height * width, dtype=bool)
    try:
        numbers = np.array(source.runs.split(), dtype=np.int64)
        starts, lengths = numbers[0::2] - 1, numbers[1::2]
        ends = starts + lengths
        if (starts < 0).any() or (lengths < 1).any() or (ends > len(flat)).any():
            raise ValueError
    except (ValueError, OverflowError) as error:
        reason = f"{record.path.name}, {source.category}: its runs are no pairs of start and length"
        remedy = f"correct them; the photo has {height} x {width} pixels"
        raise DataError(source.path, reason, remedy) from error
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        flat[start:end] = True
    return flat.reshape(width, height).T
