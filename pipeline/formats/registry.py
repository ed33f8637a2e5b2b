"""Every format by the name that the command line gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from pipeline.errors import DataError
from pipeline.formats import coco, cvat, label_studio, labelme, mvtec, png_masks, voc, yolo
from pipeline.io.write import place_file
from pipeline.types import Dataset, Detections

Write = Callable[[Path, Dataset, bool, float], None]  # folder, set, copy images, polygons' loss


class Read(Protocol):
    """Read a file or a folder. images: where they are. allow_outside: images may lie outside the
    folders that were named; a format without folders of its own leaves that to who places them."""

    def __call__(
        self, source: Path, images: Path | None, allow_outside: bool = False
    ) -> Dataset: ...


@dataclass(frozen=True)
class Format:
    """How a format is written and read, and what it is."""

    about: str
    write: Write
    read: Read


def _write_coco(root: Path, dataset: Dataset, copy: bool, loss: float | None) -> None:
    _place_images(root, dataset, copy)
    coco.write_coco(root / "annotations" / "instances.json", dataset, loss)


def _read_coco(source: Path, images: Path | None) -> Dataset:
    if source.is_dir():
        source, images = source / "annotations" / "instances.json", images or source / "images"
    return coco.read_coco(source, images)


def _write_results(root: Path, dataset: Dataset, copy: bool) -> None:
    _place_images(root, dataset, copy)
    coco.write_coco(root / "images.json", replace(dataset, objects={}))
    coco.write_coco_results(root / "results.json", dataset)


def _read_results(source: Path, images: Path | None) -> Dataset:
    if source.is_dir():
        source, images = source / "results.json", images or source / "images"
    return coco.read_coco_results(source, source.parent / "images.json", images)


def _write_png(root: Path, dataset: Dataset, copy: bool) -> None:
    _place_images(root, dataset, copy)
    png_masks.write_png_masks(root / "masks", dataset)


def _read_png(source: Path, images: Path | None) -> Dataset:
    return png_masks.read_png_masks(source / "masks", images or source / "images")


def _place_images(root: Path, dataset: Dataset, copy: bool) -> None:
    taken: dict[str, Path] = {}
    for record in dataset.records:
        if taken.setdefault(record.file_name, record.path) != record.path:
            reason = f"has the same name as {taken[record.file_name]}"
            raise DataError(record.path, reason, "rename one")
        place_file(record.path, root / "images" / record.file_name, copy)


def _without_masks(dataset: Dataset) -> Dataset:
    objects = {
        key: Detections(found.boxes, found.labels, found.scores)
        for key, found in dataset.objects.items()
    }
    return replace(dataset, objects=objects)


def _lossless(write: Callable[[Path, Dataset, bool], None]) -> Write:
    """A writer that has no polygons to simplify."""
    return lambda root, dataset, copy, _: write(root, dataset, copy)


def _placed_later(read: Callable[[Path, Path | None], Dataset]) -> Read:
    """A reader that opens no image: where they lie is checked before they are placed."""

    def reader(
        source: Path,
        images: Path | None,
        allow_outside: bool = False,  # noqa: ARG001
    ) -> Dataset:
        return read(source, images)

    return reader


def _read_mvtec(
    source: Path,
    images: Path | None,  # noqa: ARG001  # they lie in the product's folder
    allow_outside: bool = False,
) -> Dataset:
    return mvtec.read_mvtec_objects(source, allow_outside=allow_outside)


def _write_rle(root: Path, dataset: Dataset, copy: bool) -> None:
    _write_coco(root, dataset, copy, None)


def _write_yolo_boxes(root: Path, dataset: Dataset, copy: bool) -> None:
    yolo.write_yolo(root, _without_masks(dataset), False, copy)


def _write_yolo_rings(root: Path, dataset: Dataset, copy: bool, loss: float) -> None:
    yolo.write_yolo(root, dataset, True, copy, loss)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "coco": Format(
            "COCO instances, masks as RLE", _lossless(_write_rle), _placed_later(_read_coco)
        ),
        "coco-polygon": Format(
            "COCO instances, masks as polygons on pixel edges",
            _write_coco,
            _placed_later(_read_coco),
        ),
        "coco-results": Format(
            "COCO results with scores: results.json, and images.json beside it",
            _lossless(_write_results),
            _placed_later(_read_results),
        ),
        "cvat": Format(
            "CVAT for images 1.1: annotations.xml with masks",
            _lossless(cvat.write_cvat),
            _placed_later(cvat.read_cvat),
        ),
        "cvat-coco": Format(
            "COCO 1.0 in the folders that CVAT asks for",
            _lossless(cvat.write_cvat_coco),
            _placed_later(cvat.read_cvat_coco),
        ),
        "label-studio": Format(
            "Label Studio's JSON: brush strokes and rectangles",
            _lossless(label_studio.write_label_studio),
            _placed_later(label_studio.read_label_studio),
        ),
        "labelme": Format(
            "LabelMe's JSON: masks",
            _lossless(labelme.write_labelme),
            _placed_later(labelme.read_labelme),
        ),
        "labelme-polygon": Format(
            "LabelMe's JSON: polygons", labelme.write_labelme, _placed_later(labelme.read_labelme)
        ),
        "mvtec": Format(
            "MVTec AD's layout; objects that touch become one",
            _lossless(mvtec.write_mvtec),
            _read_mvtec,
        ),
        "png": Format(
            "PNG masks: value k is the k-th object", _lossless(_write_png), _placed_later(_read_png)
        ),
        "voc": Format(
            "Pascal VOC: boxes, and masks by object and by class",
            _lossless(voc.write_voc),
            _placed_later(voc.read_voc),
        ),
        "yolo": Format("YOLO boxes", _lossless(_write_yolo_boxes), yolo.read_yolo),
        "yolo-segment": Format("YOLO polygons", _write_yolo_rings, yolo.read_yolo),
    }
)
