"""Checked values of label files that are XML or rows of text.

Each function raises ValueError with the fault; the reader adds the file and the place, with
`as_data_error`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.geometry.masks import Rle, encode_patches
from pipeline.geometry.patches import Patch
from pipeline.io.read import shown_value

_MAX_COORDINATE = 2.0**31  # pixels; no real coordinate is larger
_MAX_OUTLINE = 1e7  # pixels of an outline
_PIXELS_AT_ONCE = 1 << 24
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, less \r


@contextmanager
def as_data_error(path: Path, where: str, remedy: str) -> Iterator[None]:
    """Turn a ValueError of the block into a DataError that names the file and the place."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        reason = f"{where}: {error}" if where else str(error)
        raise DataError(path, reason, remedy) from error


def number(text: str | None, name: str) -> float:
    """A finite number, of at most 2**31 in either direction: a coordinate in pixels."""
    text = _required(text, name)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {shown_value(text)}, not a number") from None
    if not math.isfinite(value) or abs(value) > _MAX_COORDINATE:
        raise ValueError(f"{name} is {shown_value(text)}, which no image has")
    return value


def many_numbers(texts: Sequence[str], name: str) -> NDArray[np.float64]:
    """As `number`, for many texts at once."""
    try:
        values = np.fromiter(map(float, texts), dtype=np.float64, count=len(texts))
    except ValueError:
        values = np.full(1, np.nan)
    if not (np.abs(values) <= _MAX_COORDINATE).all():  # `not` is true of NaN too
        values = np.array([number(text, name) for text in texts])  # which names the fault
    return values


def whole_number(text: str | None, name: str, least: int = 0) -> int:
    """A whole number from `least` to 2**31; scripts write `100.0` too."""
    text = _required(text, name)
    try:
        value = int(text.strip().removesuffix(".0"))
    except ValueError:
        raise ValueError(f"{name} is {shown_value(text)}, not a whole number") from None
    if not least <= value <= _MAX_COORDINATE:
        raise ValueError(f"{name} is {shown_value(text)}, which no image has")
    return value


def attribute(node: ElementTree.Element, name: str) -> str:
    """The text of a required attribute."""
    return _required(node.get(name), name)


def child_text(node: ElementTree.Element, path: str) -> str:
    """The text of a required child element, which may not be empty."""
    return _required(node.findtext(path), path)


def labels_by_name(categories: Sequence[str]) -> dict[str, int]:
    """The label of each category. Where two have one name, the label of the first."""
    return {name: label for label, name in reversed(list(enumerate(categories)))}


def label_of(name: str, labels: Mapping[str, int]) -> int:
    """The label of a category by its name. Raises ValueError for an undeclared name."""
    if name not in labels:
        raise ValueError(f"it names {shown_value(name)}, which is not declared")
    return labels[name]


def refuse_far(points: NDArray[np.float64], height: int, width: int) -> None:
    """Raise ValueError for a ring (P, 2) xy in pixels that has a point further outside the image
    than the image's own side, or an extremely long outline: drawing it would take all memory."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    is_inside = left >= 0 and top >= 0 and right <= width and bottom <= height
    if is_inside and len(points) * max(right - left, bottom - top) <= _MAX_OUTLINE:
        return  # the common case
    sides = np.array([width, height], dtype=np.float64)
    far = ~((points >= -sides) & (points <= 2 * sides)).all(axis=1)  # `not` is true of NaN too
    if far.any():
        x, y = points[int(far.argmax())].tolist()
        raise ValueError(
            f"a point at ({x:.6g}, {y:.6g}) is far outside an image of {width}x{height}"
        )
    length = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
    if length > _MAX_OUTLINE:
        raise ValueError(f"its outline is {length:.6g} pixels long")


def encode_stream(patches: Iterable[Patch], height: int, width: int) -> list[Rle]:
    """Like `encode_patches`, with the pixels of only a few patches in memory at a time."""
    rles: list[Rle] = []
    waiting: list[Patch] = []
    pixels = 0
    for patch in patches:
        waiting.append(patch)
        pixels += patch.pixels.size
        if pixels > _PIXELS_AT_ONCE:
            rles += encode_patches(waiting, height, width)
            waiting.clear()
            pixels = 0
    return rles + encode_patches(waiting, height, width)


def refuse_names_unfit_for_xml(path: Path, texts: Sequence[str]) -> None:
    """Raise DataError for a name with a character that XML cannot hold, such as most control
    characters."""
    for text in texts:
        if _NOT_XML.search(text):
            reason = f"the name {shown_value(text)} has a character that XML cannot hold"
            raise DataError(path, reason, "rename it")


def file_mode(path: Path) -> int:
    """The mode (`st_mode`) of a file or folder; 0 where there is none, and for a name that no file
    can have."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _required(text: str | None, name: str) -> str:
    if not text:
        raise ValueError(f"it lacks {name}")
    return text
