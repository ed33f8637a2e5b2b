"""Pascal VOC, written: Annotations/*.xml with boxes, and masks in SegmentationObject/*.png and
SegmentationClass/*.png.

Box sides are pixels counted from 1, and both ends are inside (VOC2012 development kit, section
3.3). The k-th object of an XML file has the value k in SegmentationObject. Everingham et al., IJCV
2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.values import refuse_names_unfit_for_xml
from pipeline.formats.voc_folders import UNSORTED
from pipeline.geometry.masks import to_patch
from pipeline.io.image_copies import place_image
from pipeline.io.images import write_indexed_png
from pipeline.io.names import safe_component
from pipeline.io.read import shown_value
from pipeline.io.write import write_text
from pipeline.types import Dataset, Detections, ImageRecord


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
        place_image(record.path, root / "JPEGImages" / record.file_name, copy_images)
        objects = dataset.on(record)
        write_text(root / "Annotations" / f"{stem}.xml", _xml(record, objects, dataset.categories))
        split = safe_component(record.split or UNSORTED)
        listed.setdefault(split, []).append(stem.as_posix())
        if objects.masks:
            segmented.setdefault(split, []).append(stem.as_posix())
            _write_masks(root, record, objects, len(dataset.categories))
    for folder, lists in (("Main", listed), ("Segmentation", segmented)):
        for split, stems in lists.items():
            lines = "".join(f"{stem}\n" for stem in stems)
            write_text(root / "ImageSets" / folder / f"{split}.txt", lines)
    write_text(root / "labelmap.txt", _labelmap(dataset.categories))


def _xml(record: ImageRecord, objects: Detections, categories: Sequence[str]) -> str:
    root = ElementTree.Element("annotation")
    folder, _, name = record.file_name.rpartition("/")
    _add(root, folder=folder, filename=name)
    _add(ElementTree.SubElement(root, "size"), width=record.width, height=record.height, depth=3)
    _add(root, segmented=int(bool(objects.masks)))
    if safe_component(record.split or UNSORTED) != (record.split or UNSORTED):
        _add(root, split=record.split)  # because the name of its list differs
    refuse_names_unfit_for_xml(record.path, [record.file_name, record.split])
    for row, box in enumerate(np.rint(objects.boxes).astype(int)):
        entry = ElementTree.SubElement(root, "object")
        _add(entry, name=categories[int(objects.labels[row])], pose="Unspecified")
        _add(entry, **{flag: _flag(objects, flag, row) for flag in ("truncated", "difficult")})
        x0, y0, x1, y1 = box.tolist()
        _add(ElementTree.SubElement(entry, "bndbox"), xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _flag(objects: Detections, name: str, row: int) -> int:
    column = objects.attributes.get(name)
    return int(column is not None and column.ndim == 1 and bool(column[row]))


def _add(parent: ElementTree.Element, **texts: object) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = str(text)


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


def _refuse_categories(root: Path, categories: Sequence[str]) -> None:
    refuse_names_unfit_for_xml(root, categories)
    for name in categories:
        if not name.strip() or name.startswith("#") or name == "background" or "\n" in name:
            reason = f"labelmap.txt cannot hold a category called {shown_value(name)}"
            raise DataError(root / "labelmap.txt", reason, "rename it")
