"""Pascal VOC: Annotations/*.xml with boxes, SegmentationObject/*.png and SegmentationClass/*.png.

Box sides are pixels counted from 1, and both ends are inside (VOC2012 development kit, section
3.3). The k-th object of an XML file has the value k in SegmentationObject. Everingham et al., IJCV
2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.png_masks import read_png_mask
from pipeline.formats.values import (
    as_data_error,
    child_text,
    label_of,
    labels_by_name,
    number,
    refuse_names_unfit_for_xml,
    whole_number,
)
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import Rle, to_patch
from pipeline.io.images import write_indexed_png
from pipeline.io.names import safe_component
from pipeline.io.read import read_text, read_xml, shown_value
from pipeline.io.write import place_file, write_text
from pipeline.types import Dataset, Detections, ImageRecord

_UNSORTED = "default"  # the list of images without a split
_MASKED = 255  # objects in 8 bits
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Annotation:
    """The content of one XML file: file name and size (height, width) of the image, and a label and
    a box, (x0, y0, x1, y1) in pixels, for each object."""

    name: str
    size: tuple[int, int]
    labels: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    split: str


def write_voc(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write images, boxes, masks of objects that have one, a list for each split, and labelmap.txt.

    Box sides are rounded to whole pixels. A pixel in several objects keeps the last of them.
    """
    dataset.refuse_equal_stems()
    _refuse_categories(root, dataset.categories)
    listed: dict[str, list[str]] = {}
    segmented: dict[str, list[str]] = {}
    for record in dataset.records:
        stem = Path(record.file_name).with_suffix("")
        place_file(record.path, root / "JPEGImages" / record.file_name, copy_images)
        objects = dataset.on(record)
        write_text(root / "Annotations" / f"{stem}.xml", _xml(record, objects, dataset.categories))
        split = safe_component(record.split or _UNSORTED)
        listed.setdefault(split, []).append(stem.as_posix())
        if objects.masks:
            segmented.setdefault(split, []).append(stem.as_posix())
            _write_masks(root, record, objects, len(dataset.categories))
    for folder, lists in (("Main", listed), ("Segmentation", segmented)):
        for split, stems in lists.items():
            lines = "".join(f"{stem}\n" for stem in stems)
            write_text(root / "ImageSets" / folder / f"{split}.txt", lines)
    write_text(root / "labelmap.txt", _labelmap(dataset.categories))


def read_voc(root: Path, images: Path | None = None) -> Dataset:
    """Read a VOC folder.

    Categories are the names in labelmap.txt; without that file, the sorted names of the objects.
    images: the folder of images; without it, JPEGImages. Raises DataError naming the file at fault.
    """
    files = sorted((root / "Annotations").rglob("*.xml"))
    if not files:
        raise DataError(root / "Annotations", "holds no XML file", "give the folder above it")
    lists = _read_lists(root / "ImageSets" / "Main")
    parsed = [_parse(path) for path in files]
    used = sorted({label for annotation in parsed for label in annotation.labels})
    categories = _read_labelmap(root / "labelmap.txt") or used
    label_by_name = labels_by_name(categories)
    records, objects = [], {}
    for key, (path, annotation) in enumerate(zip(files, parsed, strict=True), start=1):
        stem = path.relative_to(root / "Annotations").with_suffix("")
        with as_data_error(path, "", "correct or remove it"):
            record = _record(key, annotation, stem, images or root / "JPEGImages", lists)
            labels = [label_of(name, label_by_name) for name in annotation.labels]
        records.append(record)
        masks = _read_masks(root / "SegmentationObject" / f"{stem}.png", annotation)
        column = np.array(labels, dtype=np.int64)
        objects[key] = Detections(as_boxes(annotation.boxes), column, masks=masks)
    return Dataset(tuple(categories), tuple(records), objects)


def _read_lists(folder: Path) -> dict[str, str]:
    """The name of the list of each image, by the image's name without suffix. In VOC's own lists of
    a category, a number follows the name."""
    lists: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        for line in read_text(path).split("\n"):
            if line.strip():
                lists[line.split()[0]] = lists[line.strip()] = path.stem
    return lists


def _record(
    key: int, annotation: _Annotation, stem: Path, images: Path, lists: dict[str, str]
) -> ImageRecord:
    name = (stem.parent / Path(annotation.name).name).as_posix()
    listed = lists.get(stem.as_posix(), _UNSORTED)
    split = "" if listed == _UNSORTED else listed
    if annotation.split and safe_component(annotation.split) == listed:
        split = annotation.split
    return ImageRecord(key, images / name, name, *annotation.size, split=split)


def _read_masks(path: Path, annotation: _Annotation) -> tuple[Rle, ...] | None:
    count = len(annotation.labels)
    if not count or not path.is_file():
        return None
    if count > _MASKED:
        raise DataError(path, f"belongs to {count} objects, but can count {_MASKED}", "remove it")
    masks = read_png_mask(path, count).masks or ()
    if tuple(masks[0]["size"]) != annotation.size:
        height, width = annotation.size
        raise DataError(path, f"has not the size {width}x{height} of its XML", "remove it")
    return masks


def _xml(record: ImageRecord, objects: Detections, categories: Sequence[str]) -> str:
    root = ElementTree.Element("annotation")
    folder, _, name = record.file_name.rpartition("/")
    _add(root, folder=folder, filename=name)
    _add(ElementTree.SubElement(root, "size"), width=record.width, height=record.height, depth=3)
    _add(root, segmented=int(bool(objects.masks)))
    if safe_component(record.split or _UNSORTED) != (record.split or _UNSORTED):
        _add(root, split=record.split)  # because the name of its list differs
    refuse_names_unfit_for_xml(record.path, [record.file_name, record.split])
    for label, box in zip(objects.labels, np.rint(objects.boxes).astype(int), strict=True):
        entry = ElementTree.SubElement(root, "object")
        _add(entry, name=categories[int(label)], pose="Unspecified", truncated=0, difficult=0)
        x0, y0, x1, y1 = box.tolist()
        _add(ElementTree.SubElement(entry, "bndbox"), xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, **texts: object) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = str(text)


def _parse(path: Path) -> _Annotation:
    try:
        root = read_xml(path)
    except DataError as error:
        reason = f"is not Pascal VOC's XML: {error.reason}"
        raise DataError(path, reason, "correct or remove it") from error
    with as_data_error(path, "is not Pascal VOC's XML", "correct or remove it"):
        height, width = (
            whole_number(child_text(root, f"size/{k}"), k) for k in ("height", "width")
        )
        name = child_text(root, "filename")
        split = root.findtext("split") or root.findtext("part") or ""  # `part`: as 0.7 wrote it
    names, boxes = [], []
    for row, entry in enumerate(root.iter("object"), start=1):
        with as_data_error(path, f"object {row}", "correct or remove it"):
            names.append(child_text(entry, "name"))
            x0, y0, x1, y1 = (number(entry.findtext(f"bndbox/{k}"), k) for k in _SIDES)
            boxes.append((x0 - 1, y0 - 1, x1, y1))
    return _Annotation(name, (height, width), tuple(names), tuple(boxes), split)


def _write_masks(root: Path, record: ImageRecord, objects: Detections, categories: int) -> None:
    by_object = np.zeros(record.size, dtype=np.uint8)
    by_class = np.zeros(record.size, dtype=np.uint8)
    if len(objects) > 254 or categories > 254:
        raise DataError(
            record.path, "has over 254 objects or categories", "VOC has no room for them"
        )
    for index, rle in enumerate(objects.masks or ()):
        patch = to_patch(rle)
        x0, y0, x1, y1 = patch.box
        by_object[y0:y1, x0:x1][patch.pixels] = index + 1
        by_class[y0:y1, x0:x1][patch.pixels] = int(objects.labels[index]) + 1
    name = Path(record.file_name).with_suffix(".png")
    palette = [colour(index) for index in range(256)]
    write_indexed_png(root / "SegmentationObject" / name, by_object, palette)
    write_indexed_png(root / "SegmentationClass" / name, by_class, palette)


def colour(index: int) -> tuple[int, int, int]:
    """VOC's RGB colour of a value: each group of three bits of the value gives one bit to red,
    green and blue, from the highest bit down."""
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red |= (index & 1) << shift
        green |= (index >> 1 & 1) << shift
        blue |= (index >> 2 & 1) << shift
        index >>= 3
    return red, green, blue


def _labelmap(categories: Sequence[str]) -> str:
    rows = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    for index, name in enumerate(categories, start=1):
        rows.append(f"{name}:{','.join(map(str, colour(index)))}::")
    return "\n".join(rows) + "\n"


def _read_labelmap(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = [line for line in read_text(path).split("\n") if line.strip()]
    names = [line.strip("\r").rsplit(":", 3)[0] for line in lines if not line.startswith("#")]
    return [name for name in names if name != "background"]


def _refuse_categories(root: Path, categories: Sequence[str]) -> None:
    refuse_names_unfit_for_xml(root, categories)
    for name in categories:
        if not name.strip() or name.startswith("#") or name == "background" or "\n" in name:
            reason = f"labelmap.txt cannot hold a category called {shown_value(name)}"
            raise DataError(root / "labelmap.txt", reason, "rename it")
