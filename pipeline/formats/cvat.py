"""CVAT: its own XML for images (version 1.1), and COCO in the folders that CVAT asks for.

A mask is written as runs along the rows of its rectangle, background first; it loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import bounding_boxes, encode_patches, from_box, to_patch
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.geometry.polygons import draw_coco
from pipeline.io.write import place_file, write_text
from pipeline.types import Dataset, Detections, ImageRecord, part_of

_FILE = "annotations.xml"


def write_cvat(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write annotations.xml, with masks, or boxes for objects without, and the images. How far to
    trust each object stands in its attributes."""
    tree = ElementTree.Element("annotations")
    ElementTree.SubElement(tree, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(tree, "meta"), "task")
    labels = ElementTree.SubElement(task, "labels")
    for name in dataset.categories:
        entry = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(entry, "name").text = name
        _declare(ElementTree.SubElement(entry, "attributes"), dataset)
    for number, record in enumerate(dataset.records):
        place_file(record.path, root / "images" / record.file_name, copy_images)
        _add_image(tree, number, record, dataset.on(record), dataset.categories)
    ElementTree.indent(tree)
    write_text(root / _FILE, ElementTree.tostring(tree, encoding="unicode") + "\n")


def read_cvat(source: Path, images: Path | None = None) -> Dataset:
    """Read annotations.xml, or the folder that holds it: masks, polygons (drawn as CVAT's own
    exporter draws them, by pycocotools) and boxes.

    Where an image has masks or polygons, its boxes become filled masks. Raises DataError.
    """
    path = source / _FILE if source.is_dir() else source
    try:
        tree = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(path, "no such file", "check the path") from None
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(path, f"is not readable XML ({error})", "export it anew") from error
    nodes = list(tree.iter("image"))
    found = {shape.get("label", "") for node in nodes for shape in node}
    categories = [name.text or "" for name in tree.iterfind("meta//label/name")] or sorted(found)
    records, objects = [], {}
    for number, node in enumerate(nodes, start=1):
        name = node.get("name", "")
        try:
            size = int(node.get("height", "")), int(node.get("width", ""))
            objects[number] = _parse(node, categories, size)
            place = (images or path.parent / "images") / name
            part = node.get("subset", part_of(name))
            records.append(ImageRecord(number, place, name, *size, part=part))
        except (ValueError, KeyError) as error:
            raise DataError(path, f"image {name}: {error}", "export it anew") from error
    return Dataset(tuple(categories), tuple(records), objects)


def write_cvat_coco(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write annotations/instances_<part>.json and images/<part>/, as CVAT's COCO 1.0 has them."""
    parts = sorted({record.part for record in dataset.records})
    for part in parts:
        records = [record for record in dataset.records if record.part == part]
        subset = part or "default"
        for record in records:
            place_file(record.path, root / "images" / subset / _name(record), copy_images)
        chosen = dataset.subset(records)
        renamed = tuple(_renamed(record) for record in records)
        write_coco(
            root / "annotations" / f"instances_{subset}.json",
            Dataset(dataset.categories, renamed, chosen.objects),
        )


def read_cvat_coco(root: Path, images: Path | None = None) -> Dataset:
    """Read all of annotations/instances_*.json. Raises DataError when categories differ."""
    files = sorted((root / "annotations").glob("instances_*.json"))
    if not files:
        raise DataError(root / "annotations", "holds no instances_*.json", "check the folder")
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    categories: tuple[str, ...] | None = None
    for path in files:
        part = path.stem.removeprefix("instances_")
        place = (images or root / "images") / part
        read = read_coco(path, place)
        if categories not in (None, read.categories):
            raise DataError(path, "has other categories than its neighbours", "export it anew")
        categories = read.categories
        for record in read.records:
            number = len(records) + 1
            objects[number] = read.on(record)
            named = f"{part}/{record.file_name}" if part != "default" else record.file_name
            kept = "" if part == "default" else part
            records.append(
                ImageRecord(number, record.path, named, *record.size, defect=record.defect,
                            product=record.product, part=kept)
            )  # fmt: skip
    return Dataset(categories or (), tuple(records), objects)


def _name(record: ImageRecord) -> str:
    return record.file_name.removeprefix(f"{record.part}/") if record.part else record.file_name


def _renamed(record: ImageRecord) -> ImageRecord:
    from dataclasses import replace

    return replace(record, file_name=_name(record))


def _add_image(
    tree: ElementTree.Element,
    number: int,
    record: ImageRecord,
    objects: Detections,
    categories: Sequence[str],
) -> None:
    size = {"width": str(record.width), "height": str(record.height)}
    named = {"id": str(number), "name": record.file_name}
    node = ElementTree.SubElement(tree, "image", named | size)
    for row, label in enumerate(objects.labels):
        source = "auto" if objects.trust else "manual"
        common = {"label": categories[int(label)], "source": source, "occluded": "0"}
        if objects.masks is None:
            sides = zip(("xtl", "ytl", "xbr", "ybr"), objects.boxes[row].tolist(), strict=True)
            corners = {name: f"{value:.2f}" for name, value in sides}
            shape = ElementTree.SubElement(node, "box", {**common, **corners, "z_order": "0"})
            _add_trust(shape, objects, row)
            continue
        patch = to_patch(objects.masks[row])
        if not patch.pixels.size:
            continue
        x0, y0, x1, y1 = patch.box
        place = {"left": x0, "top": y0, "width": x1 - x0, "height": y1 - y0}
        texts = {name: str(value) for name, value in place.items()}
        runs = ", ".join(map(str, row_runs(patch.pixels)))
        kept = {**common, "rle": runs, **texts, "z_order": "0"}
        _add_trust(ElementTree.SubElement(node, "mask", kept), objects, row)


def _declare(node: ElementTree.Element, dataset: Dataset) -> None:
    """The attributes that any object of a set has: how far to trust it."""
    names = {name: None for objects in dataset.objects.values() for name in objects.trust}
    for name in names:
        entry = ElementTree.SubElement(node, "attribute")
        told = {"name": name, "mutable": "False", "input_type": "text", "default_value": ""}
        for key, value in told.items():
            ElementTree.SubElement(entry, key).text = value


def _add_trust(node: ElementTree.Element, objects: Detections, row: int) -> None:
    for name, column in objects.trust.items():
        ElementTree.SubElement(node, "attribute", {"name": name}).text = f"{column[row]:.4f}"


def row_runs(pixels: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> list[int]:
    """Lengths of runs along the rows of (h, w), alternately background and mask, from background;
    they add up to h * w."""
    flat = np.concatenate([[False], pixels.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    found: list[int] = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
    return found


def _parse(
    node: ElementTree.Element, categories: Sequence[str], size: tuple[int, int]
) -> Detections:
    shapes = [shape for shape in node if shape.tag in {"mask", "polygon", "box"}]
    if not shapes:
        return Detections.none()
    labels = np.array([categories.index(shape.get("label", "")) for shape in shapes], np.int64)
    if all(shape.tag == "box" for shape in shapes):
        return Detections(as_boxes([_corners(shape) for shape in shapes]), labels)
    draw = partial(_draw, size=size)
    masks = encode_patches([draw(shape) for shape in shapes], *size)
    return Detections(bounding_boxes(masks), labels, masks=tuple(masks))


def _corners(shape: ElementTree.Element) -> list[float]:
    return [float(shape.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr")]


def _draw(shape: ElementTree.Element, size: tuple[int, int]) -> Patch:
    if shape.tag == "box":
        box = np.array(_corners(shape), dtype=np.float32)
        return to_patch(from_box(box, *size))
    if shape.tag == "polygon":
        pairs = [point.split(",") for point in shape.attrib["points"].split(";")]
        return draw_coco([np.array(pairs, dtype=np.float64)], *size)
    left, top, width, height = (
        int(float(shape.attrib[key])) for key in ("left", "top", "width", "height")
    )
    runs = np.array(shape.attrib["rle"].split(","), dtype=np.int64)
    if runs.sum() != width * height:
        raise ValueError(f"a mask's runs cover {runs.sum()} pixels of {width}x{height}")
    values = np.arange(len(runs)) % 2 == 1
    pixels = np.repeat(values, runs).reshape(height, width)
    return tight(paste(Patch(left, top, pixels), *size))
