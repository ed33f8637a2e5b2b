"""Faults of a COCO file that other tools do not report, and their fixes where these are safe."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_schema import (
    LISTS,
    JsonKey,
    coco_rows,
    open_coco,
    refuse_other_annotations,
    with_name,
)
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.json_rows import Rows
from pipeline.formats.schema import MOST_PIXELS, MOST_SIDE, unusable
from pipeline.formats.text_stream import json_list
from pipeline.formats.validation.coco_row import Row, check_annotation, is_whole, key_of, shown
from pipeline.formats.validation.findings import (
    REJECTED,
    Finding,
    check_image,
    colliding_stems,
    repeated,
)
from pipeline.io.images import read_size
from pipeline.io.write import json_text
from pipeline.runtime.progress import track

_RENUMBERED = "numbered from 1 again"
_TEXT_ID = "its id is text, which many tools refuse"
_NAMELESS = "image without size or name"


@dataclass
class CocoCheck:
    """The faults of a file, and its text after all safe fixes.

    categories: name by id, both as they are in the file. fixed: the annotations that a fix changes,
    by their place in the file; None for one that is moved to `rejected`. sizes: (height, width) by
    image id, read from the photos of images that have none in the file. names: by image id, of
    photos that are found under another name than the file has.
    """

    raw: Rows
    findings: list[Finding]
    categories: Mapping[JsonKey, JsonValue]
    fixed: dict[int, Row | None] = field(default_factory=dict)
    rejected: list[JsonValue] = field(default_factory=list)
    sizes: dict[JsonKey, tuple[int, int]] = field(default_factory=dict)
    names: dict[JsonKey, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether a fix changes the file."""
        return any(finding.fix for finding in self.findings)

    def text(self) -> Iterator[str]:
        """The text of the file after all safe fixes, in pieces."""
        start = "{"
        for name in sorted({*self.raw.values, *LISTS}):
            yield f"{start}\n {json.dumps(name, ensure_ascii=False)}: "
            start = ","
            if name == "annotations":
                yield from json_list(self._rows(), depth=1)
            elif name == "images":
                yield from json_list(self._images(), depth=1)
            elif name in LISTS:
                yield from json_list(coco_rows(self.raw, name), depth=1)
            else:
                yield json_text(self.raw.values[name])[:-1].replace("\n", "\n ")
        yield "\n}\n"

    def _images(self) -> Iterator[JsonValue]:
        for entry in self.raw.rows("images"):
            if not isinstance(entry, dict):
                yield entry
                continue
            key = key_of(entry.get("id"))
            name, size = self.names.get(key), self.sizes.get(key)
            sides: Row = {"height": size[0], "width": size[1]} if size else {}
            yield {**entry, **({"file_name": name} if name else {}), **sides}

    def _rows(self) -> Iterator[Row]:
        renumber = any(
            finding.kind in {"duplicate id", "id 0"} and finding.fix for finding in self.findings
        )
        number = 0
        for place, raw in enumerate(coco_rows(self.raw, "annotations")):
            row = self.fixed.get(place, raw)
            if isinstance(row, dict):  # None is removed; `check_coco` refuses other values
                number += 1
                yield {**row, "id": number} if renumber else row


class _Image(NamedTuple):
    """The entry of an image. size: (height, width); None where the entry has no usable one. place:
    its photo, if that is there. saved_name: the name of the photo below the folder of images."""

    key: JsonKey
    name: str
    size: tuple[int, int] | None
    place: Path | None
    saved_name: str


def check_coco(path: Path, images: Path | None = None) -> CocoCheck:
    """All faults of a COCO instances file, and its content after all safe fixes.

    images: the folder of its images; without it, image files are not opened. Raises DataError for
    a file that is not COCO.
    """
    raw = open_coco(path)
    entries = list(_entries(path, raw, "categories"))
    categories = {key_of(entry.get("id")): entry.get("name") for entry in entries}
    finder = ImageFinder(images) if images else None
    listed = [_image(entry, finder) for entry in _entries(path, raw, "images")]
    photos = {image.key: size for image in listed if (size := _size_of_photo(image))}
    measured = {image.key: photos[image.key] for image in listed
                if not image.size and image.key in photos}  # fmt: skip
    names = _other_names(listed)
    findings = [
        *_check_categories(path, entries), *_check_images(path, listed, images, measured, names)
    ]  # fmt: skip
    sizes = {image.key: image.size or measured.get(image.key) for image in listed}
    # on an image of another size than its photo, nothing is known to be outside
    sizes |= {key: None for key, size in photos.items() if sizes[key] != size}
    if not raw.has("annotations"):
        text = "has no list of annotations"
        findings.append(Finding("no annotations", path, "", text, "made an empty list"))
    check = CocoCheck(raw, findings, categories, sizes=measured, names=names)
    ids = _Ids(path)
    for place, row in enumerate(track(coco_rows(raw, "annotations"), "check")):
        if not isinstance(row, dict):
            where = f"annotation number {place + 1}"
            check.findings.append(
                Finding("no annotation", path, where, f"is {shown(row)}", REJECTED)
            )
            check.fixed[place] = None
            check.rejected.append(row)
            continue
        refuse_other_annotations(path, row)
        ids.add(row.get("id"))
        original = {**row}
        faults, keep = check_annotation(path, row, sizes, categories)
        check.findings += faults
        if not keep or any(fault.fix for fault in faults):
            check.fixed[place] = row if keep else None
        if not keep:
            check.rejected.append(original)
    check.findings += ids.faults()
    return check


def _entries(path: Path, raw: Rows, name: str) -> Iterator[Row]:
    for number, entry in enumerate(raw.rows(name), start=1):
        if not isinstance(entry, dict):
            reason = f"is not COCO instances JSON: entry {number} of {name} is {shown(entry)}"
            raise DataError(path, reason, "it needs objects there")
        yield entry


def _check_categories(path: Path, categories: list[Row]) -> Iterator[Finding]:
    for number, entry in enumerate(categories, start=1):
        key, name = entry.get("id"), entry.get("name")
        if isinstance(key, str):
            yield Finding("id of another type", path, f"category {number}", _TEXT_ID)
        elif not is_whole(key) or not name:
            yield Finding("category without id or name", path, f"category {number}", "lacks a key")
        elif not isinstance(name, (str, int, float)) or unusable(str(name)):
            text = f"has the name {shown(name)}"
            yield Finding("category without id or name", path, f"category {number}", text)
        elif key < 1:
            text = "has id 0, which many tools take for background"
            yield Finding("id 0", path, f"category {name}", text)
    for value in repeated([key_of(entry.get("id")) for entry in categories]):
        yield Finding("duplicate id", path, f"category {value}", "two categories have this id")
    for value in repeated([key_of(entry.get("name")) for entry in categories]):
        text = "two categories have this name"
        yield Finding("categories disagree", path, f"category {value}", text)


def _image(entry: Row, finder: ImageFinder | None) -> _Image:
    name = with_name(entry).get("file_name", "")
    if not isinstance(name, (str, int, float)):
        name = ""
    values = entry.get("height"), entry.get("width")
    sides = [side for side in values if is_whole(side) and 1 <= side <= MOST_SIDE]
    usable = len(sides) == 2 and sides[0] * sides[1] <= MOST_PIXELS
    size = (sides[0], sides[1]) if usable else None
    try:
        place, saved_name = (finder and finder.find_or_none(str(name))) or (None, "")
    except DataError:  # several may be meant
        place, saved_name = None, ""
    return _Image(key_of(entry.get("id")), str(name), size, place, saved_name)


def _other_names(listed: list[_Image]) -> dict[JsonKey, str]:
    """The name of each photo that another name in the file means, and no other image."""
    uses = Counter(image.saved_name for image in listed)
    return {
        image.key: image.saved_name
        for image in listed
        if image.saved_name and uses[image.saved_name] == 1 and image.saved_name != image.name
    }


def _size_of_photo(image: _Image) -> tuple[int, int] | None:
    """(height, width) of the photo of an image; None where it is not readable."""
    try:
        return read_size(image.place) if image.place else None
    except DataError:
        return None


def _check_images(
    path: Path,
    listed: list[_Image],
    images: Path | None,
    measured: Mapping[JsonKey, tuple[int, int]],
    saved_names: Mapping[JsonKey, str],
) -> Iterator[Finding]:
    for value in repeated([image.key for image in listed]):
        yield Finding("duplicate id", path, f"image {value}", "two images have this id")
    names = [image.name for image in listed]
    for name in repeated(names):
        yield Finding("duplicate image", path, f"image {name}", "is listed twice")
    yield from colliding_stems(dict.fromkeys(names), path)
    for image in track(listed, "check images"):
        where = f"image {image.key}"
        fix = f"set to {saved_names[image.key]}, its photo" if image.key in saved_names else ""
        if size := measured.get(image.key):
            shown_size = f"set to {size[1]}x{size[0]}, the photo's"
            yield Finding(_NAMELESS, path, where, "lacks height or width", shown_size)
        elif isinstance(image.key, str):
            yield Finding("id of another type", path, where, _TEXT_ID)
        elif not image.name or not is_whole(image.key) or image.size is None:
            text = "lacks file_name, id, height or width, or one of them is not a number"
            yield Finding(_NAMELESS, path, where, text)
        elif unusable(image.name):
            yield Finding(_NAMELESS, path, where, f"no file can have the name {shown(image.name)}")
        elif PurePosixPath(image.name).is_absolute() or "\\" in image.name:
            text = f"file_name {image.name} is valid on one machine only"
            yield Finding("file_name not relative", path, where, text, fix)
        elif ".." in PurePosixPath(image.name).parts:
            text = f"file_name {image.name} leaves its folder"
            yield Finding("file_name not relative", path, where, text, fix)
        elif images is not None:
            if fix:
                text = f"no file has exactly the name {image.name}"
                yield Finding("file_name not exact", path, where, text, fix)
            place = image.place if fix and image.place else images / image.name
            yield from check_image(place, where, path, image.size)


class _Ids:
    """The ids of all annotations, 8 bytes each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole = array("q")
        self._others: list[object] = []
        self._findings: list[Finding] = []

    def add(self, value: JsonValue) -> None:
        """Record the id of an annotation."""
        if not is_whole(value):
            self._others.append(key_of(value))
            self._add_finding(f"annotation {shown(value)}", "has no whole number as id")
            return
        self._whole.append(value)
        if value == 0:
            self._add_finding("annotation 0", "COCOeval takes id 0 for no match")

    def faults(self) -> Iterator[Finding]:
        """Ids that occur twice, and ids that are not a whole number or are 0."""
        ids = np.array(self._whole, dtype=np.int64)
        values, first, counts = np.unique(ids, return_index=True, return_counts=True)
        again = sorted(zip(first[counts > 1].tolist(), values[counts > 1].tolist(), strict=True))
        for value in [*(value for _, value in again), *repeated(self._others)]:
            text = "two annotations have this id; COCO's tools keep the last"
            yield Finding("duplicate id", self._path, f"annotation {value}", text, _RENUMBERED)
        yield from self._findings

    def _add_finding(self, where: str, text: str) -> None:
        self._findings.append(Finding("id 0", self._path, where, text, _RENUMBERED))
