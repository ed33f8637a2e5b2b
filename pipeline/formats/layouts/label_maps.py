"""What the values of masks mean: defect or not, a category each, or an instance each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.formats.layouts.class_tables import (
    Values,
    has_categories,
    values_of,
    with_greys,
)
from pipeline.formats.layouts.jpeg_masks import jpeg_values
from pipeline.io.mask_files import COLOUR, read_label_values
from pipeline.io.read import read_text
from pipeline.runtime.progress import track

Meaning = Literal["auto", "defect", "categories", "instances"]
_MOST = 32  # values of a label map whose categories nobody names
_SMALL = 32  # soft edges rise higher
_NEAR = 12  # what JPEG may change a value by, inside a region
_LABEL_MAP_LINE = re.compile(r"^(?P<name>[^:#=]+):(?P<rgb>\d+,\d+,\d+):.*$")  # CVAT's labelmap.txt
_LINE = re.compile(r"^\s*(?P<value>#?\w+)\s*[=:,;\s]\s*(?P<name>.*?)\s*$")


@dataclass(frozen=True)
class CategoryNames:
    """Names that the user gives: of each value, or one for all pixels above the threshold."""

    values: Values = ()
    single: str = ""


def parse_categories(text: str | None) -> CategoryNames:
    """`1=scratch,2=dent`, `#ff0000=scratch`, one name for all, or a file of such lines, of JSON, of
    CVAT's labelmap.txt, or a table as in `class_tables`. A value without a name is left out. Raises
    ConfigError, DataError."""
    if not text:
        return CategoryNames()
    if os.sep in text or text.endswith((".txt", ".json", ".csv", ".yaml", ".yml")):
        return CategoryNames(_from_file(Path(text)))
    if "=" not in text:
        return CategoryNames(single=text.strip())
    rows = [row.partition("=") for row in text.split(",") if row.strip()]
    try:
        return CategoryNames(_checked((value.strip(), name.strip()) for value, _, name in rows))
    except ValueError as error:
        raise ConfigError(f"--categories {text}: {error}; write 1=scratch,2=dent") from None


def _from_file(path: Path) -> Values:
    text = read_text(path)
    if has_categories(text):
        return values_of(path)
    try:
        if text.lstrip().startswith("{"):
            content = json.loads(text)
            rows = [
                (key, str(value)) if _is_value(key) else (str(value), key)
                for key, value in content.items()
            ]  # fmt: skip
        else:
            rows = [row for line in text.splitlines() if (row := _row(line))]
        return _checked(rows)
    except (ValueError, AttributeError) as error:
        raise DataError(
            path, f"is no list of categories ({error})", "write lines as 1 scratch"
        ) from error


def _row(line: str) -> tuple[str, str] | None:
    line = line.strip()
    if not line or line.startswith("# ") or line == "#":
        return None
    if match := _LABEL_MAP_LINE.match(line):
        red, green, blue = (int(part) for part in match["rgb"].split(","))
        name = "" if match["name"] == "background" else match["name"]
        return f"#{red:02x}{green:02x}{blue:02x}", name
    match = _LINE.match(line)
    if not match:
        raise ValueError(f"line {line[:40]}")
    return match["value"], match["name"]


def _checked(rows: Iterable[tuple[str, str]]) -> Values:
    name_of: dict[int, str] = {}
    for text, name in rows:
        if not _is_value(text):
            raise ValueError(f"{text} is no value")
        value = _value(text)
        if value in name_of:
            raise ValueError(f"{text} has two names")
        name_of[value] = name
    name_of.pop(0, None)  # background
    name_of.pop(COLOUR, None)  # as a colour
    if not any(name_of.values()):
        raise ValueError("it names no category")
    return tuple(sorted(with_greys(name_of).items()))


def _is_value(text: str) -> bool:
    return text.isdecimal() or bool(re.fullmatch("#[0-9a-fA-F]{6}", text))


def _value(text: str) -> int:
    """As `read_label_values` has it. A number that no grey value is, is that of a colour."""
    value = int(text[1:], 16) if text.startswith("#") else int(text)
    return value | COLOUR if text.startswith("#") or 0xFFFF < value < COLOUR else value


@dataclass(frozen=True)
class Seen:
    """What the pixels of masks hold. flat, mixed: components with one value, and with several."""

    values: frozenset[int]
    flat: int
    mixed: int


def look_at(masks: Sequence[Path], folder: Path) -> Seen:
    """The values of all masks of a folder; of JPEG masks those that they had before. What cannot be
    read is left to the reader of the masks. Raises DataError for JPEG masks that do not tell."""
    lossy, before = jpeg_values(masks, folder)
    rest = sorted({*masks} - {*lossy})
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        seen = list(pool.map(_seen, track(rest, "read masks")))
    values = frozenset().union(*(one.values for one in seen))
    more = {value for value in before if all(abs(value - other) > _NEAR for other in values)}
    flat = sum(one.flat for one in seen) + len(before) * len(lossy)
    return Seen(values | more, flat, sum(one.mixed for one in seen))


def _seen(path: Path) -> Seen:
    try:
        values = read_label_values(path)
    except DataError:
        return Seen(frozenset(), 0, 0)
    numbers = frozenset(np.unique(values).tolist()) - {0}
    if len(numbers) < 2:
        return Seen(numbers, len(numbers), 0)
    count, labels = cv2.connectedComponents((values != 0).view(np.uint8), connectivity=8)
    low = np.full(count, np.iinfo(np.int32).max)
    high = np.zeros(count, np.int32)
    np.minimum.at(low, labels, values)
    np.maximum.at(high, labels, values)
    flat = int((low[1:] == high[1:]).sum())
    return Seen(numbers, flat, count - 1 - flat)


def meaning_of(seen: Seen, folder: Path) -> Meaning:
    """What the values of masks mean that have several: small numbers, and components of one value
    each, are categories; the others are soft edges. Raises DataError for too many categories."""
    if len(seen.values) < 2:
        return "defect"
    is_map = max(seen.values) <= _SMALL or seen.flat > seen.mixed or max(seen.values) > 0xFFFF
    if not is_map:
        return "defect"
    if len(seen.values) > _MOST:
        reason = f"its masks have {len(seen.values)} values"
        remedy = "say what they mean: --mask-values defect, categories or instances"
        raise DataError(folder, reason, remedy)
    return "categories"
