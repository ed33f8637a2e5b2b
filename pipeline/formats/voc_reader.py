"""Pascal VOC, read: the folders of VOC, or labelImg's XML files beside the photos.

Box sides are pixels counted from 1, and both ends are inside (VOC2012 development kit, section
3.3). The k-th object of an XML file has the value k in SegmentationObject.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.png_masks import read_png_mask
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error, child_text, label_of, labels_by_name, number
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import Rle
from pipeline.io.images import read_size
from pipeline.io.names import safe_component
from pipeline.io.read import read_text, read_xml, shown_value
from pipeline.types import SPLITS, Dataset, Detections, ImageRecord

UNSORTED = "default"  # the list of images without a split
_MASKED = 255  # objects in 8 bits
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOTH = "trainval"  # VOC's list of train and val together, which is no split
_REMEDY = "correct or remove it"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Annotation:
    """The content of one XML file.

    name: of the image, as the file says. size: (height, width); None where the file has none.
    labels, boxes: of each object; a box is (x0, y0, x1, y1) in pixels. rows: the place of each
    object in the file, from 1. count: objects in the file, with those that are left out.
    """

    name: str
    size: tuple[int, int] | None
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]
    rows: tuple[int, ...]
    count: int
    split: str


def read_voc(root: Path, images: Path | None = None, log: SourceLog | None = None) -> Dataset:
    """Read a VOC folder, or a folder of labelImg with the XML files beside the photos.

    The photo of an XML file has the same name; if there is none, the name that the file gives.
    Categories are the names in labelmap.txt; without that file, the sorted names of the objects.
    images: the folder of images; without it, JPEGImages, or the folder of the XML files. log:
    counts every object. Raises DataError naming the file at fault.
    """
    log = log or SourceLog()
    base, files = _xml_files(root)
    finder = ImageFinder(images or _image_folder(root, base))
    lists = _read_lists(root / "ImageSets" / "Main")
    annotations: list[tuple[Path, _Annotation]] = []
    for path in files:
        try:
            annotations.append((path, _parse(path, log)))
        except DataError as error:
            log.fault(error)
    used = sorted({label for _, annotation in annotations for label in annotation.labels})
    categories = _read_labelmap(root / "labelmap.txt") or used
    label_by_name = labels_by_name(categories)
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    for path, annotation in annotations:
        key, stem = len(records) + 1, path.relative_to(base).with_suffix("")
        try:
            with as_data_error(path, "", _REMEDY):
                labels = [label_of(name, label_by_name) for name in annotation.labels]
                record = _record(key, path, annotation, stem, finder, lists, log)
            masks = _read_masks(root, stem, annotation, record.size)
        except DataError as error:
            log.fault(error)
            log.leave_out("object", "its file is faulty", path.name, len(annotation.labels))
            continue
        log.read(len(labels))
        records.append(record)
        column = np.array(labels, dtype=np.int64)
        objects[key] = Detections(as_boxes(annotation.boxes), column, masks=masks)
    return Dataset(tuple(categories), tuple(records), objects)


def _xml_files(root: Path) -> tuple[Path, list[Path]]:
    """The folder of the XML files, and all that are in it."""
    base = root / "Annotations" if (root / "Annotations").is_dir() else root
    files = sorted(path for path in base.rglob("*.[xX][mM][lL]") if not path.name.startswith("."))
    if not files:
        raise DataError(base, "holds no XML file", "give the folder above it")
    return base, files


def _image_folder(root: Path, base: Path) -> Path:
    """JPEGImages beside the folder of the XML files, or that folder itself."""
    folders = (root / "JPEGImages", base.parent / "JPEGImages")
    return next((folder for folder in folders if folder.is_dir()), base if base == root else root)


def _read_lists(folder: Path) -> dict[str, str]:
    """The split of each image, by the image's name without suffix: the name of the list that holds
    it. A list of one category, such as crack_train.txt, and trainval.txt are no splits."""
    lists: dict[str, str] = {}
    paths = sorted(folder.glob("*.txt"), key=lambda path: (path.stem in SPLITS, path.name))
    for path in paths:
        rows = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        if path.stem != _BOTH and not _is_of_category(path.stem, rows):
            lists.update(dict.fromkeys(rows, path.stem))
    return lists


def _is_of_category(name: str, rows: list[str]) -> bool:
    """Whether a list says for each image if it has an object of one category: 1, 0 or -1."""
    ends = any(name.endswith(f"_{split}") for split in (*SPLITS, _BOTH))
    return ends and all(row.split()[-1] in {"1", "0", "-1"} for row in rows)


def _record(
    key: int, path: Path, annotation: _Annotation, stem: Path, finder: ImageFinder,
    lists: dict[str, str], log: SourceLog,
) -> ImageRecord:  # fmt: skip
    try:
        place, name = _photo(path, annotation, stem, finder, log)
    except DataError as error:
        raise DataError(path, f"its photo {error.path}: {error.reason}", error.remedy) from error
    listed = lists.get(stem.as_posix(), UNSORTED)
    split = "" if listed == UNSORTED else listed
    if annotation.split and safe_component(annotation.split) == listed:
        split = annotation.split
    size = annotation.size
    if size is None:
        size = read_size(place)
        log.note("sizes that XML files do not give are those of the photos")
    return ImageRecord(key, place, name, *size, split=split)


def _photo(
    path: Path, annotation: _Annotation, stem: Path, finder: ImageFinder, log: SourceLog
) -> tuple[Path, str]:
    """The photo of an XML file, and its name. Raises DataError for one that is not there."""
    given = annotation.name.replace("\\", "/").rpartition("/")[2]
    named = (stem.parent / given).as_posix()
    if given.rpartition(".")[0] in {stem.name, ""} or given == stem.name:
        return finder.find(named, stem.as_posix(), annotation.name)
    if own := finder.find_or_none(stem.as_posix()):
        log.note(f"{path.name} names {shown_value(given)}; the photo of its own name is taken")
        return own
    return finder.find(named, annotation.name)


def _read_masks(
    root: Path, stem: Path, annotation: _Annotation, size: tuple[int, int]
) -> tuple[Rle, ...] | None:
    path = root / "SegmentationObject" / f"{stem}.png"
    count = annotation.count
    if not annotation.labels or not path.is_file():
        return None
    if count > _MASKED:
        raise DataError(path, f"belongs to {count} objects, but can count {_MASKED}", "remove it")
    masks = read_png_mask(path, count).masks or ()
    if tuple(masks[0]["size"]) != size:
        height, width = size
        raise DataError(path, f"has not the size {width}x{height} of its XML", "remove it")
    return tuple(masks[row - 1] for row in annotation.rows)


def _parse(path: Path, log: SourceLog) -> _Annotation:
    try:
        root = read_xml(path)
    except DataError as error:
        reason = f"is not Pascal VOC's XML: {error.reason}"
        raise DataError(path, reason, _REMEDY) from error
    with as_data_error(path, "is not Pascal VOC's XML", _REMEDY):
        if root.tag != "annotation":
            raise ValueError(f"its root is {shown_value(root.tag)}, not annotation")
        size = _size(root)
        name = child_text(root, "filename")
        split = root.findtext("split") or root.findtext("part") or ""  # `part`: as 0.7 wrote it
    entries = list(root.iter("object"))
    objects = list(_objects(path, entries, log))
    return _Annotation(
        name=name,
        size=size,
        labels=tuple(label for _, label, _ in objects),
        boxes=tuple(box for _, _, box in objects),
        rows=tuple(row for row, _, _ in objects),
        count=len(entries),
        split=split,
    )


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """(height, width); None where a side is missing, empty or 0, as labelImg writes a photo that it
    could not measure. Raises ValueError."""
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    if not all(texts):
        return None
    height, width = (number(text, "size") for text in texts)
    if height == 0 or width == 0:
        return None
    if not (height.is_integer() and width.is_integer() and height > 0 and width > 0):
        raise ValueError(f"its size is {shown_value('x'.join(reversed(texts)))}")
    return int(height), int(width)


def _objects(
    path: Path, entries: list[ElementTree.Element], log: SourceLog
) -> Iterator[tuple[int, str, Box]]:
    """The place from 1, name and box of each object that has a box."""
    for row, entry in enumerate(entries, start=1):
        with as_data_error(path, f"object {row}", _REMEDY):
            name = child_text(entry, "name")
            if entry.find("bndbox") is None:
                log.leave_out("object", "has no bndbox", f"{path.name} object {row}")
                continue
            x0, y0, x1, y1 = (number(entry.findtext(f"bndbox/{k}"), k) for k in _SIDES)
        if x0 > x1 or y0 > y1:
            log.note(f"{path.name} object {row}: swapped corners are put in order")
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        yield row, name, (x0 - 1, y0 - 1, x1, y1)


def _read_labelmap(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    names = [line.strip("\r").rsplit(":", 3)[0] for line in lines if not line.startswith("#")]
    return [name for name in names if name != "background"]
