"""Faults of a COCO file that other tools meet in silence, and the mending of those that is safe."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.coco_schema import LISTS, open_coco
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.schema import MOST_PIXELS, MOST_SIDE, unusable
from pipeline.formats.text_stream import json_list
from pipeline.formats.validation.coco_row import Row, check_annotation, is_whole, key_of, shown
from pipeline.formats.validation.findings import Finding, check_image, colliding_stems, repeated
from pipeline.io.write import json_text
from pipeline.runtime.progress import track

_NUMBERED = "numbered from 1 again"
_NAMELESS = "image without size or name"


@dataclass
class CocoCheck:
    """What was found in a file, and how it is written when all that is safe is mended.

    categories: names by id, each as it is in the file. Only rows that are mended are held.
    """

    raw: JsonRows
    findings: list[Finding]
    categories: Mapping[object, object]
    mended: dict[int, Row | None] = field(default_factory=dict)  # by place; None is removed

    @property
    def changes(self) -> bool:
        """Whether there is anything to mend."""
        return any(finding.mend for finding in self.findings)

    def text(self) -> Iterator[str]:
        """The mended file, in the pieces of `json_text`."""
        start = "{"
        for name in sorted({*self.raw.values, *LISTS}):
            yield f"{start}\n {json.dumps(name, ensure_ascii=False)}: "
            start = ","
            if name == "annotations":
                yield from json_list(self._rows(), depth=1)
            elif name in LISTS:
                yield from json_list(self.raw.rows(name), depth=1)
            else:
                yield json_text(self.raw.values[name])[:-1].replace("\n", "\n ")
        yield "\n}\n"

    def _rows(self) -> Iterator[Row]:
        renumber = any(
            found.kind in {"duplicate id", "id 0"} and found.mend for found in self.findings
        )
        number = 0
        for place, row in enumerate(self.raw.rows("annotations")):
            kept = self.mended.get(place, row)
            if kept is not None:
                number += 1
                yield {**kept, "id": number} if renumber else kept


class _Image(NamedTuple):
    """An image's entry. size: (height, width), None where it has no usable one."""

    key: object
    name: str
    size: tuple[int, int] | None


def check_coco(path: Path, images: Path | None = None) -> CocoCheck:
    """Every fault of a COCO instances file, and its content with all that is safe mended.

    images: the folder of its images; without it, image files are not opened. Raises DataError
    for a file that is not COCO at all.
    """
    raw = open_coco(path)
    entries = list(_entries(path, raw, "categories"))
    categories = {key_of(entry.get("id")): entry.get("name") for entry in entries}
    listed = [_image(entry) for entry in _entries(path, raw, "images")]
    found = [*_check_categories(path, entries), *_check_images(path, listed, images)]
    sizes = {image.key: image.size for image in listed}
    check = CocoCheck(raw, found, categories)
    ids = _Ids(path)
    for place, row in enumerate(track(_entries(path, raw, "annotations"), "check")):
        ids.add(row.get("id"))
        faults, kept = check_annotation(path, row, sizes, categories)
        check.findings += faults
        if not kept or any(fault.mend for fault in faults):
            check.mended[place] = row if kept else None
    check.findings += ids.faults()
    return check


def _entries(path: Path, raw: JsonRows, name: str) -> Iterator[Row]:
    for number, entry in enumerate(raw.rows(name), start=1):
        if not isinstance(entry, dict):
            reason = f"is not COCO instances JSON: entry {number} of {name} is {shown(entry)}"
            raise DataError(path, reason, "it needs objects there")
        yield entry


def _check_categories(path: Path, categories: list[Row]) -> Iterator[Finding]:
    for number, entry in enumerate(categories, start=1):
        name = entry.get("name")
        if not is_whole(entry.get("id")) or not name:
            yield Finding("category without id or name", path, f"category {number}", "lacks a key")
        elif not isinstance(name, (str, int, float)) or unusable(str(name)):
            text = f"has the name {shown(name)}"
            yield Finding("category without id or name", path, f"category {number}", text)
        elif entry["id"] < 1:
            text = "has id 0, which many tools take for background"
            yield Finding("id 0", path, f"category {name}", text)
    for value in repeated([key_of(entry.get("id")) for entry in categories]):
        yield Finding("duplicate id", path, f"category {value}", "two categories have this id")
    for value in repeated([key_of(entry.get("name")) for entry in categories]):
        text = "two categories have this name"
        yield Finding("categories disagree", path, f"category {value}", text)


def _image(entry: Row) -> _Image:
    name = entry.get("file_name", "")
    if not isinstance(name, (str, int, float)):
        name = ""
    height, width = entry.get("height"), entry.get("width")
    sides = [side for side in (height, width) if is_whole(side) and 1 <= side <= MOST_SIDE]
    usable = len(sides) == 2 and sides[0] * sides[1] <= MOST_PIXELS
    return _Image(key_of(entry.get("id")), str(name), (sides[0], sides[1]) if usable else None)


def _check_images(path: Path, listed: list[_Image], images: Path | None) -> Iterator[Finding]:
    for value in repeated([image.key for image in listed]):
        yield Finding("duplicate id", path, f"image {value}", "two images have this id")
    names = [image.name for image in listed]
    for name in repeated(names):
        yield Finding("duplicate image", path, f"image {name}", "is listed twice")
    yield from colliding_stems(dict.fromkeys(names), path)
    for image in track(listed, "check images"):
        where = f"image {image.key}"
        if not image.name or not is_whole(image.key) or image.size is None:
            text = "lacks file_name, id, height or width, or one is no number"
            yield Finding(_NAMELESS, path, where, text)
        elif unusable(image.name):
            yield Finding(_NAMELESS, path, where, f"no file can have the name {shown(image.name)}")
        elif PurePosixPath(image.name).is_absolute() or "\\" in image.name:
            text = f"file_name {image.name} holds on one machine only"
            yield Finding("file_name not relative", path, where, text)
        elif ".." in PurePosixPath(image.name).parts:
            text = f"file_name {image.name} leaves its folder"
            yield Finding("file_name not relative", path, where, text)
        elif images is not None:
            yield from check_image(images / image.name, where, path, image.size)


class _Ids:
    """The ids of all annotations, 8 bytes each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = array("q")
        self._others: list[object] = []
        self._found: list[Finding] = []

    def add(self, value: Any) -> None:
        """Note an annotation's id."""
        if not is_whole(value):
            self._others.append(key_of(value))
            self._note(f"annotation {shown(value)}", "has no whole number as id")
            return
        self._whole.append(value)
        if value == 0:
            self._note("annotation 0", "COCOeval takes id 0 for no match")

    def faults(self) -> Iterator[Finding]:
        """Ids that occur twice, and those that are none."""
        ids = np.array(self._whole, dtype=np.int64)
        values, first, counts = np.unique(ids, return_index=True, return_counts=True)
        again = sorted(zip(first[counts > 1].tolist(), values[counts > 1].tolist(), strict=True))
        for value in [*(value for _, value in again), *repeated(self._others)]:
            text = "two annotations have this id; COCO's tools keep the last"
            yield Finding("duplicate id", self._path, f"annotation {value}", text, _NUMBERED)
        yield from self._found

    def _note(self, where: str, text: str) -> None:
        self._found.append(Finding("id 0", self._path, where, text, _NUMBERED))
