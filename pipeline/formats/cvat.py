"""CVAT: its own XML for images (version 1.1), and COCO in the folders that CVAT needs.

A mask is written as runs along the rows of its rectangle, background first. It loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.values import (
    as_data_error,
    attribute,
    encode_stream,
    label_of,
    labels_by_name,
    number,
    refuse_far,
    refuse_names_unfit_for_xml,
    whole_number,
)
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import bounding_boxes, from_box, to_patch
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.geometry.polygons import draw_coco
from pipeline.io.names import leaves_its_folder, safe_component
from pipeline.io.read import read_xml, shown_value
from pipeline.io.write import place_file, write_text
from pipeline.types import Dataset, Detections, ImageRecord, split_of

_FILE = "annotations.xml"
_UNSORTED = "default"  # CVAT's subset of images without a split
_SIDES = ("xtl", "ytl", "xbr", "ybr")


def write_cvat(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write annotations.xml, with a mask or box for each object, and the images. The attributes of
    an object are its confidence columns."""
    refuse_names_unfit_for_xml(
        root, [*dataset.categories, *(record.file_name for record in dataset.records)]
    )
    tree = ElementTree.Element("annotations")
    ElementTree.SubElement(tree, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(tree, "meta"), "task")
    labels = ElementTree.SubElement(task, "labels")
    for name in dataset.categories:
        entry = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(entry, "name").text = name
        _declare(ElementTree.SubElement(entry, "attributes"), dataset)
    for row, record in enumerate(dataset.records):
        place_file(record.path, root / "images" / record.file_name, copy_images)
        _add_image(tree, row, record, dataset.on(record), dataset.categories)
    ElementTree.indent(tree)
    write_text(root / _FILE, ElementTree.tostring(tree, encoding="unicode") + "\n")


def read_cvat(source: Path, images: Path | None = None) -> Dataset:
    """Read annotations.xml, or the folder that holds it: masks, polygons and boxes.

    pycocotools draws the polygons, as in CVAT's own exporter. On an image with masks or polygons,
    boxes become filled masks. images: the folder of images; without it, `images` beside the file.
    Raises DataError.
    """
    path = source / _FILE if source.is_dir() else source
    tree = read_xml(path, "annotations")
    nodes = list(tree.iter("image"))
    used = {name for node in nodes for shape in node if (name := shape.get("label"))}
    categories = [name.text or "" for name in tree.iterfind("meta//label/name")] or sorted(used)
    labels = labels_by_name(categories)
    records, objects = [], {}
    for key, node in enumerate(nodes, start=1):
        name = node.get("name", "")
        where = f"image {shown_value(name)}"
        with as_data_error(path, where, "export it again"):
            size = (
                whole_number(node.get("height"), "height"),
                whole_number(node.get("width"), "width"),
            )
            place = (images or path.parent / "images") / name
            split = node.get("subset", split_of(name))
            records.append(ImageRecord(key, place, name, *size, split=split))
        refuse_false_size(place, size)
        objects[key] = _parse(node, labels, size, path, where)
    return Dataset(tuple(categories), tuple(records), objects)


def write_cvat_coco(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write annotations/instances_<split>.json and images/<split>/, the layout of CVAT's COCO 1.0.
    Raises DataError where two images would get one name."""
    subsets = [safe_component(record.split or _UNSORTED) for record in dataset.records]
    written: dict[Path, Path] = {}
    for subset, record in zip(subsets, dataset.records, strict=True):
        target = root / "images" / subset / _name(record)
        if written.setdefault(target, record.path) != record.path:
            raise DataError(record.path, f"has the same name as {written[target]}", "rename one")
        place_file(record.path, target, copy_images)
    for subset in sorted(set(subsets)):
        records = [r for of, r in zip(subsets, dataset.records, strict=True) if of == subset]
        renamed = tuple(replace(record, file_name=_name(record)) for record in records)
        write_coco(
            root / "annotations" / f"instances_{subset}.json",
            Dataset(dataset.categories, renamed, dataset.subset(records).objects),
        )


def read_cvat_coco(root: Path, images: Path | None = None) -> Dataset:
    """Read annotations/instances_*.json, one file for each split. Raises DataError when their
    categories differ."""
    files = sorted((root / "annotations").glob("instances_*.json"))
    if not files:
        raise DataError(root / "annotations", "holds no instances_*.json", "check the folder")
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    categories: tuple[str, ...] | None = None
    for path in files:
        subset = path.stem.removeprefix("instances_")
        part = read_coco(path, (images or root / "images") / subset)
        if categories not in (None, part.categories):
            raise DataError(path, "has other categories than the other files", "export it again")
        categories = part.categories
        for record in part.records:
            key = len(records) + 1
            objects[key] = part.on(record)
            with as_data_error(path, "", "rename it"):
                records.append(
                    _with_split(subset, replace(record, id=key, source_split="", group=""))
                )
    return Dataset(categories or (), tuple(records), objects)


def _with_split(subset: str, record: ImageRecord) -> ImageRecord:
    """The record with its split: its own, where the subset's name was made from that, else the
    subset's name."""
    if subset == _UNSORTED:
        return replace(record, split="")
    split = record.split if record.split and safe_component(record.split) == subset else subset
    folder = subset if leaves_its_folder(split) else split
    return replace(record, split=split, file_name=f"{folder}/{record.file_name}")


def _name(record: ImageRecord) -> str:
    """The name of an image inside the folder of its split."""
    name = record.file_name.removeprefix(f"{record.split}/") if record.split else record.file_name
    return name.lstrip("/")


def _add_image(
    tree: ElementTree.Element,
    key: int,
    record: ImageRecord,
    objects: Detections,
    categories: Sequence[str],
) -> None:
    size = {"width": str(record.width), "height": str(record.height)}
    named = {"id": str(key), "name": record.file_name}
    node = ElementTree.SubElement(tree, "image", named | size)
    for row, label in enumerate(objects.labels):
        source = "auto" if objects.confidence_columns else "manual"
        common = {"label": categories[int(label)], "source": source, "occluded": "0"}
        if objects.masks is None:
            sides = zip(_SIDES, objects.boxes[row].tolist(), strict=True)
            corners = {name: f"{value:.2f}" for name, value in sides}
            shape = ElementTree.SubElement(node, "box", {**common, **corners, "z_order": "0"})
            _add_confidence(shape, objects, row)
            continue
        patch = to_patch(objects.masks[row])
        if not patch.pixels.size:
            continue
        x0, y0, x1, y1 = patch.box
        place = {"left": x0, "top": y0, "width": x1 - x0, "height": y1 - y0}
        texts = {name: str(value) for name, value in place.items()}
        runs = ", ".join(map(str, row_runs(patch.pixels)))
        attributes = {**common, "rle": runs, **texts, "z_order": "0"}
        _add_confidence(ElementTree.SubElement(node, "mask", attributes), objects, row)


def _declare(node: ElementTree.Element, dataset: Dataset) -> None:
    """Declare an attribute for each confidence column of a dataset."""
    names = {name: None for objects in dataset.objects.values()
             for name in objects.confidence_columns}  # fmt: skip
    for name in names:
        entry = ElementTree.SubElement(node, "attribute")
        texts = {"name": name, "mutable": "False", "input_type": "text", "default_value": ""}
        for key, value in texts.items():
            ElementTree.SubElement(entry, key).text = value


def _add_confidence(node: ElementTree.Element, objects: Detections, row: int) -> None:
    for name, column in objects.confidence_columns.items():
        ElementTree.SubElement(node, "attribute", {"name": name}).text = f"{column[row]:.4f}"


def row_runs(pixels: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> list[int]:
    """Lengths of the runs along the rows of pixels (h, w): alternately background and mask,
    starting with background. Their sum is h * w."""
    flat = np.concatenate([[False], pixels.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    lengths: list[int] = np.diff(np.concatenate([[0], edges, [pixels.size]])).tolist()
    return lengths


def _parse(
    node: ElementTree.Element, labels: Mapping[str, int], size: tuple[int, int], path: Path,
    where: str,
) -> Detections:  # fmt: skip
    """The objects of an image: boxes if all shapes are boxes, otherwise masks."""
    shapes = [shape for shape in node if shape.tag in {"mask", "polygon", "box"}]
    if not shapes:
        return Detections.none()
    boxed = all(shape.tag == "box" for shape in shapes)
    column: list[int] = []
    corners: list[list[float]] = []

    def patches() -> Iterator[Patch]:
        for row, shape in enumerate(shapes, start=1):
            with as_data_error(path, f"{where}: {shape.tag} {row}", "export it again"):
                column.append(label_of(attribute(shape, "label"), labels))
                if boxed:
                    corners.append(_corners(shape))
                    continue
                patch = _draw(shape, *size)
            yield patch

    masks = encode_stream(patches(), *size)
    boxes = as_boxes(corners) if boxed else bounding_boxes(masks)
    return Detections(boxes, np.array(column, np.int64), masks=None if boxed else tuple(masks))


def _corners(shape: ElementTree.Element) -> list[float]:
    return [number(shape.get(side), side) for side in _SIDES]


def _draw(shape: ElementTree.Element, height: int, width: int) -> Patch:
    if shape.tag == "box":
        box = np.array(_corners(shape), dtype=np.float32)
        return to_patch(from_box(box, height, width))
    if shape.tag == "mask":
        return _draw_runs(shape, height, width)
    pairs = [point.split(",") for point in attribute(shape, "points").split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("its points are not pairs")
    points = np.array([[number(value, "a point") for value in pair] for pair in pairs])
    refuse_far(points, height, width)
    return draw_coco([points], height, width)


def _draw_runs(shape: ElementTree.Element, height: int, width: int) -> Patch:
    """The pixels of a mask from the runs along the rows of its rectangle."""
    left, top, across, down = (
        int(number(shape.get(key), key)) for key in ("left", "top", "width", "height")
    )
    if across < 1 or down < 1 or across * down > height * width:
        raise ValueError(f"a mask of {across}x{down} pixels on an image of {width}x{height}")
    if not (-across < left < width and -down < top < height):
        raise ValueError(f"a mask at ({left}, {top}) is outside an image of {width}x{height}")
    text = attribute(shape, "rle")
    try:
        runs = np.array(text.split(","), dtype=np.int64)
    except (ValueError, OverflowError):
        raise ValueError("the runs of its rle are not whole numbers") from None
    if runs.min() < 0 or runs.max() > across * down or runs.sum() != across * down:
        raise ValueError(f"its runs do not add up to {across}x{down} pixels")
    values = np.arange(len(runs)) % 2 == 1
    pixels = np.repeat(values, runs).reshape(down, across)
    return tight(paste(Patch(left, top, pixels), height, width))
