"""Pascal VOC: Annotations/*.xml with boxes, SegmentationObject/*.png and SegmentationClass/*.png.

Boxes are pixels counted from 1, both ends inside (VOC2012 development kit, section 3.3). The k-th
object of an XML file has the value k in SegmentationObject. Everingham et al., IJCV 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.png_masks import read_png_mask
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import to_patch
from pipeline.images import write_indexed_png
from pipeline.io.write import place_file, write_text
from pipeline.types import Dataset, Detections, ImageRecord

_LISTS = {"train": "train", "val": "val", "test": "test", "": "default"}


def write_voc(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write images, boxes, masks where there are any, lists by part, and labelmap.txt.

    Sides are rounded to whole pixels; pixels in several objects keep the last of them.
    """
    dataset.refuse_equal_stems()
    listed: dict[str, list[str]] = {}
    segmented: dict[str, list[str]] = {}
    for record in dataset.records:
        stem = Path(record.file_name).with_suffix("")
        place_file(record.path, root / "JPEGImages" / record.file_name, copy_images)
        objects = dataset.on(record)
        write_text(root / "Annotations" / f"{stem}.xml", _xml(record, objects, dataset.categories))
        listed.setdefault(_LISTS.get(record.part, record.part), []).append(stem.as_posix())
        if objects.masks:
            segmented.setdefault(_LISTS.get(record.part, record.part), []).append(stem.as_posix())
            _write_masks(root, record, objects, len(dataset.categories))
    for folder, lists in (("Main", listed), ("Segmentation", segmented)):
        for part, stems in lists.items():
            lines = "".join(f"{stem}\n" for stem in stems)
            write_text(root / "ImageSets" / folder / f"{part}.txt", lines)
    write_text(root / "labelmap.txt", _labelmap(dataset.categories))


def read_voc(root: Path, images: Path | None = None) -> Dataset:
    """Read a VOC folder. Categories are labelmap.txt's, else the names found, sorted.

    Raises DataError naming the file at fault.
    """
    files = sorted((root / "Annotations").rglob("*.xml"))
    if not files:
        raise DataError(root / "Annotations", "holds no XML file", "give the folder above it")
    part_of = {
        line.split()[0]: "" if path.stem == "default" else path.stem
        for path in sorted((root / "ImageSets" / "Main").glob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    }
    parsed = [_parse(path) for path in files]
    found = sorted({name for _, _, names, _ in parsed for name in names})
    categories = _read_labelmap(root / "labelmap.txt") or found
    records, objects = [], {}
    for number, (path, (name, size, names, boxes)) in enumerate(
        zip(files, parsed, strict=True), start=1
    ):
        stem = path.relative_to(root / "Annotations").with_suffix("")
        file_name = (stem.parent / Path(name).name).as_posix()
        place = (images or root / "JPEGImages") / file_name
        part = part_of.get(stem.as_posix(), "")
        records.append(ImageRecord(number, place, file_name, *size, part=part))
        if missing := set(names) - set(categories):
            raise DataError(path, f"names {missing.pop()}, which labelmap.txt lacks", "add it")
        labels = np.array([categories.index(name) for name in names], dtype=np.int64)
        masks = None
        mask_file = root / "SegmentationObject" / stem.with_suffix(".png")
        if names and mask_file.is_file():
            masks = read_png_mask(mask_file, len(names)).masks
        objects[number] = Detections(as_boxes(boxes), labels, masks=masks)
    return Dataset(tuple(categories), tuple(records), objects)


def _xml(record: ImageRecord, objects: Detections, categories: Sequence[str]) -> str:
    root = ElementTree.Element("annotation")
    folder, _, name = record.file_name.rpartition("/")
    _add(root, folder=folder, filename=name)
    _add(ElementTree.SubElement(root, "size"), width=record.width, height=record.height, depth=3)
    _add(root, segmented=int(bool(objects.masks)))
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


def _parse(path: Path) -> tuple[str, tuple[int, int], list[str], list[list[float]]]:
    try:
        root = ElementTree.parse(path).getroot()
        size = int(_text(root, "size/height")), int(_text(root, "size/width"))
        names, boxes = [], []
        for entry in root.iter("object"):
            names.append(_text(entry, "name"))
            x0, y0, x1, y1 = (
                float(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append([x0 - 1, y0 - 1, x1, y1])
        return _text(root, "filename"), size, names, boxes
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(path, f"is not Pascal VOC's XML ({error})", "mend or remove it") from error


def _text(node: ElementTree.Element, path: str) -> str:
    text = node.findtext(path)
    if not text:
        raise ValueError(f"it lacks {path}")
    return text


def _write_masks(root: Path, record: ImageRecord, objects: Detections, categories: int) -> None:
    by_object = np.zeros(record.size, dtype=np.uint8)
    by_class = np.zeros(record.size, dtype=np.uint8)
    if len(objects) > 254 or categories > 254:
        raise DataError(record.path, "has over 254 objects or kinds", "VOC has no room for them")
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
    """VOC's colour of a value: its bits, three by three, from the highest bit of each channel."""
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
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[0] for line in lines if line.strip() and not line.startswith("#")]
    return [name for name in names if name != "background"]
