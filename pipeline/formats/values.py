"""Checked values of label files that are XML or rows of text. Each raises ValueError that says what
is wrong; the reader adds the file and the place in it."""

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

_FURTHEST = 2.0**31  # of a coordinate in pixels; beyond it nothing is meant
_LONGEST = 1e7  # pixels of an outline
_PIXELS_AT_ONCE = 1 << 24
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, less \r


@contextmanager
def blamed_on(path: Path, where: str, remedy: str) -> Iterator[None]:
    """Turn a ValueError within the block into a DataError of the file and the place."""
    try:
        yield
    except (ValueError, OverflowError) as error:
        reason = f"{where}: {error}" if where else str(error)
        raise DataError(path, reason, remedy) from error


def number(text: str | None, name: str) -> float:
    """A finite number that a coordinate in pixels can have."""
    text = _given(text, name)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {shown_value(text)}, not a number") from None
    if not math.isfinite(value) or abs(value) > _FURTHEST:
        raise ValueError(f"{name} is {shown_value(text)}, which no image has")
    return value


def whole(text: str | None, name: str, least: int = 0) -> int:
    """A whole number from `least` to 2**31."""
    text = _given(text, name)
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"{name} is {shown_value(text)}, not a whole number") from None
    if not least <= value <= _FURTHEST:
        raise ValueError(f"{name} is {shown_value(text)}, which no image has")
    return value


def attribute(node: ElementTree.Element, name: str) -> str:
    """An attribute that an element must have."""
    return _given(node.get(name), name)


def child_text(node: ElementTree.Element, path: str) -> str:
    """The text of a child element that must be there and not be empty."""
    return _given(node.findtext(path), path)


def numbered(categories: Sequence[str]) -> dict[str, int]:
    """Each category's label; the first one's where two have one name."""
    return {name: label for label, name in reversed(list(enumerate(categories)))}


def label_of(name: str, labels: Mapping[str, int]) -> int:
    """The label of a category that a file names."""
    if name not in labels:
        raise ValueError(f"it names {shown_value(name)}, which is not declared")
    return labels[name]


def refuse_far(points: NDArray[np.float64], height: int, width: int) -> None:
    """Refuse a ring (P, 2) xy in pixels with points further outside an image than its own sides, or
    of a length beyond all sense: drawing it would take memory without end."""
    sides = np.array([width, height], dtype=np.float64)
    far = ~((points >= -sides) & (points <= 2 * sides)).all(axis=1)  # `not` is true of NaN too
    if far.any():
        x, y = points[int(far.argmax())].tolist()
        raise ValueError(
            f"a point at ({x:.6g}, {y:.6g}) is far outside an image of {width}x{height}"
        )
    length = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
    if length > _LONGEST:
        raise ValueError(f"its outline is {length:.6g} pixels long")


def encode_in_turn(found: Iterable[Patch], height: int, width: int) -> list[Rle]:
    """As `encode_patches`, with the pixels of a few patches in memory at a time."""
    rles: list[Rle] = []
    waiting: list[Patch] = []
    pixels = 0
    for patch in found:
        waiting.append(patch)
        pixels += patch.pixels.size
        if pixels > _PIXELS_AT_ONCE:
            rles += encode_patches(waiting, height, width)
            waiting.clear()
            pixels = 0
    return rles + encode_patches(waiting, height, width)


def refuse_no_xml(path: Path, texts: Sequence[str]) -> None:
    """Raise DataError for a name that XML cannot hold: it knows no control characters."""
    for text in texts:
        if _NOT_XML.search(text):
            reason = f"the name {shown_value(text)} has a character that XML cannot hold"
            raise DataError(path, reason, "rename it")


def kind_of_file(path: Path) -> int:
    """The mode of what lies at a path, 0 for nothing and for a name that no file can have."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _given(text: str | None, name: str) -> str:
    if not text:
        raise ValueError(f"it lacks {name}")
    return text
