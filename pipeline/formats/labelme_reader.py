"""LabelMe 3 to 5 and X-AnyLabeling, read: one JSON file beside each image."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from pydantic import TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.labelme_schema import LabelMeFile, LabelMeShape, read_labelme_file
from pipeline.formats.labelme_shapes import CONVERTED, DRAWN, RECTANGLE, draw_shape, type_of
from pipeline.formats.schema import Text, file_name
from pipeline.formats.source import SourceLog
from pipeline.formats.values import labels_by_name
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import Rle, bounding_boxes, encode_patches
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.io.images import read_size
from pipeline.io.read import checked, read_json, read_text, shown_value
from pipeline.io.write import make_folder
from pipeline.types import Dataset, Detections, ImageRecord

_NAME = TypeAdapter(Text)
_LEAST_POINTS = {"polygon": 3, "rotation": 3, RECTANGLE: 2, "circle": 2, "mask": 1}
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_NOT_LABELS = {"run.json", "rejected.json", "classes.json"}


def read_labelme(root: Path, images: Path | None = None, log: SourceLog | None = None) -> Dataset:
    """Read every LabelMe file below a folder.

    Categories are the names in labels.txt; without that file, the sorted names of the shapes.
    Masks, polygons, rectangles and circles become masks as LabelMe draws them. On an image with
    rectangles alone, they stay boxes. Shapes of one label in one group are one object. images: the
    folder of images; without it, each lies beside its file; a photo that is gone is that in
    imageData. log: counts every shape. Raises DataError naming the file at fault.
    """
    log = log or SourceLog()
    contents = _contents(root, log)
    used = sorted({label for content in contents.values() for label in _labels(content)})
    categories = _categories(root / "labels.txt") or used
    labels = labels_by_name(categories)
    finder = ImageFinder(images or root)
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    for path, content in contents.items():
        try:
            record = _record(len(records) + 1, path, content, root, finder, log)
            own = _parse(content["shapes"], labels, record, path, log)
        except DataError as error:
            log.fault(error)
            continue
        except ValueError as error:
            log.fault(DataError(path, f"is not a LabelMe file ({error})", "correct it"))
            continue
        records.append(record)
        objects[record.id] = own
    return Dataset(tuple(categories), tuple(records), objects)


def _contents(root: Path, log: SourceLog) -> dict[Path, LabelMeFile]:
    """The LabelMe files below a folder, or the file itself."""
    files = [root] if root.is_file() else sorted(root.rglob("*.json"))
    contents: dict[Path, LabelMeFile] = {}
    for path in files:
        if path.name in _NOT_LABELS or path.name.startswith("."):
            continue
        try:
            content = read_labelme_file(path)
        except DataError as error:
            log.fault(error)
            continue
        if content is not None:
            contents[path] = content
    if not contents:
        raise DataError(root, "holds no LabelMe file", "give the folder of the JSON files")
    return contents


def _labels(content: LabelMeFile) -> set[str]:
    return {label for shape in content["shapes"] if _is_drawn(shape) and (label := shape["label"])}


def _is_drawn(shape: LabelMeShape) -> bool:
    return type_of(shape) in DRAWN


def _categories(listing: Path) -> list[str]:
    """The names in labels.txt; none without the file."""
    if not listing.is_file():
        return []
    names = read_text(listing).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [checked(_NAME, name, listing) for name in names if name.strip()]


def _record(
    key: int, path: Path, content: LabelMeFile, root: Path, finder: ImageFinder, log: SourceLog
) -> ImageRecord:
    base = root if root.is_dir() else root.parent
    given = content["imagePath"].replace("\\", "/")  # from Windows
    folder = path.relative_to(base).parent
    name = (folder / Path(given).name).as_posix()
    file_name(content["imagePath"])
    file_name(name)
    if (found := finder.find_or_none(name, given)) is None:
        found = finder.find_or_none((folder / path.stem).as_posix())
        if found:
            log.note(f"{path.name} names {shown_value(given)}; the photo of its own name is taken")
    place, name = found or _from_data(path, name, log) or (path.parent / given, name)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not height or not width:
        height, width = read_size(place)
    return ImageRecord(key, place, name, height, width)


def _from_data(path: Path, name: str, log: SourceLog) -> tuple[Path, str] | None:
    """The photo that the file holds itself, in a folder of our own; None where it holds none."""
    data = read_json(path).get("imageData")
    if not isinstance(data, str):
        return None
    try:
        picture = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not picture.startswith(_PICTURES):
        return None
    target = log.made_files() / name
    make_folder(target.parent)
    target.write_bytes(picture)
    log.note("photos that are gone are those in imageData")
    return target, name


def _parse(
    shapes: Sequence[LabelMeShape], labels: Mapping[str, int], record: ImageRecord, path: Path,
    log: SourceLog,
) -> Detections:  # fmt: skip
    """The objects of one image. Raises ValueError naming the shape."""
    kept = [(number, shape) for number, shape in enumerate(shapes)
            if not _leave_out(shape, f"{path.name} shapes[{number}]", log)]  # fmt: skip
    for number, shape in kept:
        if shape["label"] not in labels:
            raise ValueError(
                f"shapes[{number}] has the label {shape['label']!r}, not in labels.txt"
            )
    column = [labels[str(shape["label"])] for _, shape in kept]
    if all(type_of(shape) == RECTANGLE for _, shape in kept):
        log.read(len(kept))
        corners = [np.array(shape["points"], dtype=np.float32) for _, shape in kept]
        boxes = as_boxes([[*c.min(axis=0), *c.max(axis=0)] for c in corners])
        return Detections(boxes, np.array(column, dtype=np.int64), masks=None if kept else ())
    refuse_false_size(record.path, record.size)
    masks: dict[int, Patch] = {}
    for (number, shape), owner in zip(kept, _owners([shape for _, shape in kept]), strict=True):
        try:
            patch = draw_shape(shape, *record.size)
        except (ValueError, TypeError, cv2.error) as error:
            raise ValueError(f"shapes[{number}]: {error}") from error
        masks[owner] = _union(masks[owner], patch, *record.size) if owner in masks else patch
        _count(type_of(shape), log)
    rles: list[Rle] = encode_patches(list(masks.values()), *record.size)
    if parts := len(kept) - len(masks):
        log.note(f"{parts} shapes are parts of other objects, of the same label and group")
    owners = np.array([column[owner] for owner in masks], dtype=np.int64)
    return Detections(bounding_boxes(rles), owners, masks=tuple(rles))


def _leave_out(shape: LabelMeShape, where: str, log: SourceLog) -> bool:
    """Whether a shape is left out, which is counted."""
    kind = type_of(shape)
    points = len(shape.get("points") or ())
    if kind not in DRAWN:
        log.leave_out(kind, "has no area", where)
    elif not shape.get("label"):
        log.leave_out(kind, "has no label", where)
    elif points < _LEAST_POINTS[kind]:
        log.leave_out(kind, f"has {points} points", where)
    else:
        return False
    return True


def _count(kind: str, log: SourceLog) -> None:
    if kind in CONVERTED:
        log.convert(kind)
    elif kind == RECTANGLE:
        log.convert("rectangle among masks", "filled mask")
    else:
        log.read()


def _owners(shapes: Sequence[LabelMeShape]) -> list[int]:
    """For each shape, the index of the first shape of its label and group, or its own index."""
    first: dict[tuple[str | None, int | str], int] = {}
    return [
        index
        if (group := shape.get("group_id")) is None
        else first.setdefault((shape["label"], group), index)
        for index, shape in enumerate(shapes)
    ]


def _union(first: Patch, second: Patch, height: int, width: int) -> Patch:
    return tight(paste(first, height, width) | paste(second, height, width))
