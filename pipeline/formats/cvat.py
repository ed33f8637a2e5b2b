"""CVAT: its own XML for images (version 1.1), and COCO in the folders that CVAT needs.

A mask is written as runs along the rows of its rectangle, background first. It loses nothing. See
`cvat_reader` for what is read of the XML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.formats.cvat_reader import XML, read_cvat
from pipeline.formats.cvat_shapes import SIDES
from pipeline.formats.values import as_data_error, refuse_names_unfit_for_xml
from pipeline.geometry.masks import to_patch
from pipeline.io.image_copies import place_image
from pipeline.io.names import leaves_its_folder, safe_component
from pipeline.io.write import write_text
from pipeline.types import Dataset, Detections, ImageRecord

__all__ = ["read_cvat", "read_cvat_coco", "row_runs", "write_cvat", "write_cvat_coco"]
_UNSORTED = "default"  # CVAT's subset of images without a split


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
        place_image(record.path, root / "images" / record.file_name, copy_images)
        _add_image(tree, row, record, dataset.on(record), dataset.categories)
    ElementTree.indent(tree)
    write_text(root / XML, ElementTree.tostring(tree, encoding="unicode") + "\n")


def write_cvat_coco(root: Path, dataset: Dataset, copy_images: bool = False) -> None:
    """Write annotations/instances_<split>.json and images/<split>/, the layout of CVAT's COCO 1.0.
    Raises DataError where two images would get one name."""
    subsets = [safe_component(record.split or _UNSORTED) for record in dataset.records]
    written: dict[Path, Path] = {}
    for subset, record in zip(subsets, dataset.records, strict=True):
        target = root / "images" / subset / _name(record)
        if written.setdefault(target, record.path) != record.path:
            raise DataError(record.path, f"has the same name as {written[target]}", "rename one")
        place_image(record.path, target, copy_images)
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
            sides = zip(SIDES, objects.boxes[row].tolist(), strict=True)
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
