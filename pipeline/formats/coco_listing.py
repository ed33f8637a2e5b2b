"""COCO's images and categories, of any tool, as records and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError
from pipeline.formats.coco_schema import CocoImage, Key, coco_categories, coco_images
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.source import SourceLog
from pipeline.io.images import read_size
from pipeline.types import GOOD, ImageRecord


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


def read_listing(path: Path, raw: JsonRows, images: Path | None, log: SourceLog) -> Listing:
    """The images and categories of a file. images: the folder of the images, which is searched for
    names of another machine; without it, the folder of `path`, which is not. Raises DataError."""
    categories = coco_categories(path, raw)
    finder = ImageFinder(images or path.parent, search=images is not None)
    records: list[ImageRecord] = []
    image_of: dict[Key, int | None] = {}
    by_name: dict[str, int] = {}
    numbers: set[int] = set()
    for entry in coco_images(path, raw):
        key = entry["id"]
        if key in image_of:
            raise DataError(path, "has two images with one id", "number the images again")
        try:
            record = _record(path, entry, finder)
        except DataError as error:
            log.fault(error)
            image_of[key] = None
            continue
        if record.file_name in by_name:
            log.note(f"{record.file_name} is listed twice: all objects are on one image")
        else:
            number = key if isinstance(key, int) else len(records) + 1
            while number in numbers:
                number += 1
            numbers.add(number)
            by_name[record.file_name] = number
            records.append(replace(record, id=number))
        image_of[key] = by_name[record.file_name]
    label_of = {entry["id"]: label for label, entry in enumerate(categories)}
    names = tuple(entry["name"] for entry in categories)
    return Listing(names, label_of, tuple(records), image_of)


def _record(path: Path, entry: CocoImage, finder: ImageFinder) -> ImageRecord:
    place, name = _placed(entry["file_name"], finder)
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
            0, place, name, height, width,
            product=entry.get("product") or "",
            source_split=source_split or "",
            defect=GOOD if defect is None else defect,
            group=entry.get("group") or "",
            split=split or "",
        )  # fmt: skip
    except ValueError as error:
        raise DataError(
            path, f"image {entry['id']}: {error}", "name files below --images"
        ) from error


def _placed(name: str, finder: ImageFinder) -> tuple[Path, str]:
    """Path and name of an image; of one that is not there, those that the file gives."""
    whole = Path(name)
    if whole.is_absolute() and whole.is_relative_to(finder.root.resolve()):
        name = whole.relative_to(finder.root.resolve()).as_posix()
    return finder.find_or_none(name) or (finder.root / name, name)
