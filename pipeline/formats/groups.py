"""Which images show one object, as the user says: by a pattern on their names, or by a table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ConfigError, DataError
from pipeline.io.read import read_text, shown_value
from pipeline.types import Dataset, ImageRecord

NEAR_DUPLICATES, NONE = "near-duplicates", "none"
_HEADINGS = {"image", "images", "file", "file_name", "filename", "name", "path"}


@dataclass(frozen=True)
class Grouped:
    """dataset: its records have their groups. unmatched: images that the pattern does not match,
    each a group of its own."""

    dataset: Dataset
    unmatched: int = 0


def group_file(group_by: str) -> Path | None:
    """The table that a `--group-by` names; None for a pattern or a word."""
    if group_by in {NEAR_DUPLICATES, NONE}:
        return None
    path = Path(group_by)
    named = path.suffix.lower() in {".csv", ".tsv"} and "(" not in group_by
    return path if named or path.is_file() else None


def group_by(dataset: Dataset, by: str, roots: Sequence[Path] = ()) -> Grouped:
    """Give each record a group: by a file, or by a pattern.

    roots: the folders of the images, which paths in a file or a pattern are relative to. With
    `none`, images keep the groups that their layout gives. Raises as `group_by_file` and
    `group_by_pattern`.
    """
    if by == NONE:
        return Grouped(dataset)
    path = group_file(by)
    return group_by_file(dataset, path, roots) if path else group_by_pattern(dataset, by, roots)


def group_by_pattern(dataset: Dataset, pattern: str, roots: Sequence[Path] = ()) -> Grouped:
    """Group images by what the first parenthesis of `pattern` matches: in the path relative to the
    set, without suffix, if the pattern has a `/`; else in the file stem.

    An image without a match is a group of its own. Raises ConfigError for a pattern that is not a
    regular expression with a parenthesis, or that matches no image at all.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group-by {pattern!r} is not a regular expression: {error}") from None
    if expression.groups < 1:
        reason = "needs a parenthesis around the group's name"
        raise ConfigError(f"--group-by {pattern!r} {reason}")
    records, unmatched = [], 0
    for record in dataset.records:
        name = relative_name(record, roots) if "/" in pattern else record.path.name
        match = expression.search(str(Path(name).with_suffix("")))
        own = match and match.group(1)
        unmatched += own is None
        group = record.group if own is None else f"{record.product}/{own}"
        records.append(replace(record, group=group))
    if records and unmatched == len(records):
        shown = shown_value(records[0].path.name)
        raise ConfigError(f"--group-by {pattern!r} finds no group, for {shown} neither: widen it")
    return Grouped(replace(dataset, records=tuple(records)), unmatched)


def group_by_file(dataset: Dataset, path: Path, roots: Sequence[Path] = ()) -> Grouped:
    """Group images by a table of image and group, one line each, with or without a heading.

    An image is named by its path relative to the set, or by its bare name where no other has it.
    Raises DataError for a table that names an unknown image, one image twice, or leaves one out.
    """
    places = _places(dataset.records, roots)
    group_of: dict[int, str] = {}
    for line, name, group in _rows(path):
        rows = places.get(name, [])
        if len(rows) != 1:
            raise DataError(path, *_unclear(line, name, len(rows)))
        if group_of.setdefault(rows[0], group) != group:
            reason = f"line {line} puts {shown_value(name)} into a second group"
            raise DataError(path, reason, "keep one of them")
    missing = [r for row, r in enumerate(dataset.records) if row not in group_of]
    if missing:
        first = shown_value(relative_name(missing[0], roots))
        reason = f"leaves out {len(missing)} images, such as {first}"
        remedy = "give each image a line; an image alone has a group of its own"
        raise DataError(path, reason, remedy)
    records = [replace(r, group=group_of[row]) for row, r in enumerate(dataset.records)]
    return Grouped(replace(dataset, records=tuple(records)))


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Line number, image and group of each line. Raises DataError for a line without a group."""
    text = read_text(path)
    first = text.partition("\n")[0]
    mark = max(",;\t", key=first.count)
    rows: list[tuple[int, str, str]] = []
    try:
        table = list(csv.reader(io.StringIO(text), delimiter=mark))
    except csv.Error as error:
        raise DataError(path, f"is not a CSV file ({error})", "write image,group") from error
    for line, cells in enumerate(table, 1):
        values = [cell.strip() for cell in cells]
        if not any(values):
            continue
        if len(values) < 2 or not values[0] or not values[1]:
            raise DataError(path, f"line {line} is not an image and its group", "write image,group")
        if not rows and values[0].lower() in _HEADINGS:
            continue
        rows.append((line, values[0].replace("\\", "/").removeprefix("./"), values[1]))
    return rows


def _unclear(line: int, name: str, count: int) -> tuple[str, str]:
    if count:
        return f"line {line}: {count} images have the name {shown_value(name)}", "add its folder"
    reason = f"line {line} names {shown_value(name)}, which is no image of the set"
    return reason, "write its path in the set, or remove the line"


def _places(records: Sequence[ImageRecord], roots: Sequence[Path]) -> dict[str, list[int]]:
    """The rows of the records that each name may mean: a path in the set, a name in the dataset,
    or else a bare name."""
    exact: dict[str, list[int]] = {}
    bare: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        path = relative_name(record, roots)
        for name in {path, f"{record.product}/{path}", record.file_name}:
            exact.setdefault(name, []).append(row)
        bare.setdefault(record.path.name, []).append(row)
    return bare | exact


def relative_name(record: ImageRecord, roots: Sequence[Path]) -> str:
    """The path of an image below the folder of its set, with `/`."""
    for root in roots:
        if record.path.is_relative_to(root):
            return record.path.relative_to(root).as_posix()
    return record.file_name
