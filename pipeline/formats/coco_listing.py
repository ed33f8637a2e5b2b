"""COCO's images and categories, of any tool, as records and labels."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco_schema import CocoImage, Key, coco_categories, coco_image
from pipeline.formats.image_names import ImageFinder, same_name
from pipeline.formats.json_rows import Rows
from pipeline.formats.source import SourceLog
from pipeline.io.images import read_size
from pipeline.io.read import shown_value
from pipeline.types import GOOD, ImageRecord

Size = tuple[int, int]


@dataclass(frozen=True)
class Listing:
    """The images and categories that the annotations of a file refer to.

    label_of: label by category id. image_of: id of the record by the image's id in the file; two
    entries of one photo have one record, and a faulty image has None.
    """

    categories: tuple[str, ...]
    label_of: Mapping[Key, int]
    records: tuple[ImageRecord, ...]
    image_of: Mapping[Key, int | None]

    def sizes(self) -> dict[Key, Size | None]:
        """(height, width) of each image by its id in the file; None for a faulty one. Equal sizes
        are one object."""
        shared: dict[Size, Size] = {}
        own = {each.id: shared.setdefault(each.size, each.size) for each in self.records}
        return {key: None if image is None else own[image] for key, image in self.image_of.items()}

    def by_name(self) -> Listing:
        """The same, where an image may also be named by its file name or its stem, if no other
        image has it."""
        names = Counter[str]()
        ids: dict[Key, int] = {}
        for record in self.records:
            name = PurePosixPath(record.file_name)
            for key in dict.fromkeys((str(name), name.name, name.stem)):
                names[key] += 1
                ids[key] = record.id
        unique = {key: number for key, number in ids.items() if names[str(key)] == 1}
        return replace(self, image_of={**unique, **self.image_of})


def read_listing(path: Path, raw: Rows, images: Path | None, log: SourceLog) -> Listing:
    """The images and categories of a file. images: the folder of the images, which is searched for
    names of another machine; without it, the folder of `path`, which is not. Raises DataError."""
    names, label_of = _categories(path, raw, log)
    finder = ImageFinder(images or path.parent, search=images is not None)
    listed = _Images(path, finder, log)
    for number, entry in enumerate(raw.rows("images"), start=1):
        listed.add(entry, number)
    log.list_images(listed.count)
    return Listing(names, label_of, *listed.records())


def _categories(path: Path, raw: Rows, log: SourceLog) -> tuple[tuple[str, ...], dict[Key, int]]:
    """The names, and the label of each id. Two categories of one name are one."""
    labels: dict[str, int] = {}
    label_of: dict[Key, int] = {}
    for entry in coco_categories(path, raw):
        key, name = entry["id"], entry["name"]
        if label_of.setdefault(key, labels.get(name, len(labels))) != labels.get(name, len(labels)):
            reason = f"has two categories with the id {shown_value(key)}"
            raise DataError(path, reason, "number the categories again")
        if name in labels:
            log.note(f"two categories are called {shown_value(name)}: they are read as one")
        labels.setdefault(name, len(labels))
    return tuple(labels), label_of


class _Images:
    """Finds the photo of each image of a file. Two images with one photo are one, if both name that
    file; but one whose name is only alike has no photo."""

    def __init__(self, path: Path, finder: ImageFinder, log: SourceLog) -> None:
        self._path, self._finder, self._log = path, finder, log
        self._root = finder.root.resolve()  # once: it takes longer than all else of an image
        self._entries: dict[Key, CocoImage] = {}
        self._faulty: set[Key] = set()
        self._owners: dict[str, Key] = {}  # of each photo the first image that names it
        self._more: dict[str, dict[str, Key]] = {}  # and the others by the name that they give it
        self._places: dict[Key, tuple[Path, str] | None] = {}
        self._sides: dict[int, int] = {}  # equal numbers as one object
        self.count = 0

    def add(self, entry: JsonValue, number: int) -> None:
        """Add an entry of the file."""
        self.count += 1
        try:
            image = coco_image(self._path, entry, number)
            self._refuse_second(image)
            if image["id"] in self._entries:
                return
            name = self._relative(image["file_name"])
            place = self._finder.find_or_none(name)
        except DataError as error:
            self._log.fault(error)
            if isinstance(entry, dict) and isinstance(key := entry.get("id"), (int, str)):
                self._faulty.add(key)
            return
        key = image["id"]
        self._entries[key], self._places[key] = image, place
        if place:
            self._own_photo(place[1], same_name(name), key)

    def records(self) -> tuple[tuple[ImageRecord, ...], dict[Key, int | None]]:
        """The images, and the record of each id of the file; None for a faulty one."""
        records: list[ImageRecord] = []
        image_of: dict[Key, int | None] = dict.fromkeys(self._faulty)
        by_name: dict[str, int] = {}
        numbers: set[int] = set()
        for key, entry in self._entries.items():
            if key in image_of:
                continue
            image_of[key] = None
            try:
                record = _record(self._path, entry, *self._own(key), self._sides)
            except DataError as error:
                self._log.fault(error)
                continue
            if record.file_name in by_name:
                self._note_twice(record.file_name)
            else:
                number = key if isinstance(key, int) else len(records) + 1
                while number in numbers:
                    number += 1
                numbers.add(number)
                by_name[record.file_name] = number
                records.append(replace(record, id=number))
            image_of[key] = by_name[record.file_name]
        return tuple(records), image_of

    def _refuse_second(self, image: CocoImage) -> None:
        """Raise DataError for another image with an id of one before."""
        before = self._entries.get(image["id"])
        if before is None:
            return
        names = before["file_name"], image["file_name"]
        if same_name(names[0]) != same_name(names[1]):
            reason = f"two images have the id {image['id']}, {names[0]} and {names[1]}"
            raise DataError(self._path, reason, "number the images again")
        self._note_twice(names[0])

    def _note_twice(self, name: str) -> None:
        self._log.note(f"{name} is listed twice: all objects are on one image")

    def _own_photo(self, photo: str, name: str, key: Key) -> None:
        """Note that an image gives a photo this name; of two with one name, the first has it."""
        first = self._owners.setdefault(photo, key)
        if first != key and name != self._name_of(first):
            self._more.setdefault(photo, {}).setdefault(name, key)

    def _name_of(self, key: Key) -> str:
        return same_name(self._relative(self._entries[key]["file_name"]))

    def _relative(self, name: str) -> str:
        """A name, relative to the folder of the images if it lies in it."""
        if name.startswith(("/", "\\")) or name[1:2] == ":":
            whole = Path(name)
            if whole.is_absolute() and whole.is_relative_to(self._root):
                return whole.relative_to(self._root).as_posix()
        return name

    def _own(self, key: Key) -> tuple[Path, str]:
        """Path and name of an image; of one that is not there, those that the file gives. Raises
        DataError for a photo that another image names, or may name."""
        name, place = self._entries[key]["file_name"], self._places[key]
        if place is None:
            name = self._relative(name)
            return self._finder.root / name, name
        more = self._more.get(place[1])
        if more is None or (own := self._name_of(key)) == same_name(place[1]):
            return place
        first = self._owners[place[1]]
        owners = {self._name_of(first): first, **more}
        owner = owners.get(same_name(place[1]))
        other = next(each for text, each in owners.items() if text != own)
        reason = (
            f"image {key}, {name}, has no photo: {place[1]} is that of image {owner}"
            if owner is not None
            else f"image {key}, {name}, and image {other} may both be {place[1]}"
        )
        raise DataError(self._path, reason, "name their folders, or remove one")


def _record(
    path: Path, entry: CocoImage, place: Path, name: str, sides: dict[int, int]
) -> ImageRecord:
    """The record of an image, without its id. Texts and sides that many images have are one object:
    of a million images they take a tenth of the memory. Raises DataError."""
    defect = entry.get("defect")
    split, source_split = entry.get("split"), entry.get("source_split")
    if "part" in entry:  # 0.7 wrote `part` for the split, and `split` for the split of the source
        split, source_split = entry["part"], entry.get("split")
    height, width = entry.get("height"), entry.get("width")
    if not height or not width:
        try:
            height, width = read_size(place)
        except DataError as error:
            reason = f"image {entry['id']} has no height and width, and its photo is not readable"
            raise DataError(path, f"{reason} ({error})", "give its folder with --images") from error
    try:
        return ImageRecord(
            0, place, name, sides.setdefault(height, height), sides.setdefault(width, width),
            product=sys.intern(entry.get("product") or ""),
            source_split=sys.intern(source_split or ""),
            defect=GOOD if defect is None else sys.intern(defect),
            group=sys.intern(entry.get("group") or ""),
            split=sys.intern(split or ""),
        )  # fmt: skip
    except ValueError as error:
        raise DataError(
            path, f"image {entry['id']}: {error}", "name files below --images"
        ) from error
