"""LabelMe 3 to 5 and X-AnyLabeling, read: one JSON file beside each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from pydantic import JsonValue, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.coco_forms import as_numbers
from pipeline.formats.image_files import read_text_within, refuse_false_size
from pipeline.formats.image_objects import MASK_CLIPPED, SourceObject, clipped, gather
from pipeline.formats.labelme_photos import LabelMePhotos
from pipeline.formats.labelme_schema import LabelMeFile, LabelMeShape, read_labelme_file
from pipeline.formats.labelme_shapes import CONVERTED, DRAWN, RECTANGLE, draw_shape, type_of
from pipeline.formats.schema import Text
from pipeline.formats.source import SourceLog
from pipeline.formats.values import labels_by_name
from pipeline.geometry.masks import Rle, encode_patches
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.io.images import read_size
from pipeline.io.read import checked, files_below
from pipeline.types import Dataset, Detections, ImageRecord

_NAME = TypeAdapter(Text)
_LEAST_POINTS = {"polygon": 3, "quadrilateral": 3, "circle": 2, "mask": 1}  # of other shapes 2
_NO_AREA = {"point", "points", "line", "linestrip"}
_NOT_LABELS = {"run.json", "rejected.json", "classes.json"}


def read_labelme(root: Path, images: Path | None = None, log: SourceLog | None = None) -> Dataset:
    """Read every LabelMe file below a folder.

    Categories are the names in labels.txt; without that file, the sorted names of the shapes.
    Masks, polygons, rectangles and circles become masks as LabelMe draws them. On an image with
    rectangles alone that are not turned, they stay boxes. Shapes of one label in one group are
    one object. images: the folder of images; without it, each lies where its file says, or beside
    it; see `labelme_photos`. log: counts every shape. Raises DataError naming the file at fault.
    """
    log = log or SourceLog()
    contents = _contents(root, log)
    used = sorted({label for content in contents.values() for label in _labels(content)})
    categories = _categories(root) or used
    labels = labels_by_name(categories)
    given = {
        path: path.stem if (name := content["imagePath"]) is None else name
        for path, content in contents.items()
    }
    photos = LabelMePhotos(given, root if root.is_dir() else root.parent, images, log)
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    for path, content in contents.items():
        before = log.counted
        try:
            record = _record(len(records) + 1, content, *photos.find(path))
            own = _parse(content["shapes"], labels, record, path, log)
        except (DataError, ValueError) as error:
            fault = DataError(path, f"is not a LabelMe file ({error})", "correct it")
            fault = error if isinstance(error, DataError) else fault
            rest = len(content["shapes"]) - (log.counted - before)
            log.image_fault(path.name, fault, rest)
            continue
        records.append(record)
        objects[record.id] = own
    return Dataset(tuple(categories), tuple(records), objects)


def _contents(root: Path, log: SourceLog) -> dict[Path, LabelMeFile]:
    """The LabelMe files below a folder, or the file itself."""
    files = [root] if root.is_file() else [Path(name) for name in files_below(root)]
    contents: dict[Path, LabelMeFile] = {}
    for path in sorted(files):
        if path.suffix != ".json" or path.name in _NOT_LABELS:
            continue
        try:
            content = read_labelme_file(path, log)
        except DataError as error:
            log.fault(error)
            continue
        if content is not None:
            contents[path] = content
    if not contents and not log.faults.errors:
        raise DataError(root, "holds no LabelMe file", "give the folder of the JSON files")
    return contents


def _labels(content: LabelMeFile) -> set[str]:
    return {label for shape in content["shapes"] if _is_drawn(shape) and (label := shape["label"])}


def _is_drawn(shape: LabelMeShape) -> bool:
    return type_of(shape) in DRAWN


def _categories(root: Path) -> list[str]:
    """The names in labels.txt; none without the file."""
    listing = root / "labels.txt"
    if not listing.is_file():
        return []
    names = read_text_within(listing, root).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [checked(_NAME, name, listing) for name in names if name.strip()]


def _record(key: int, content: LabelMeFile, place: Path, name: str) -> ImageRecord:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not height or not width:
        height, width = read_size(place)
    return ImageRecord(key, place, name, height, width)


def _parse(
    shapes: Sequence[LabelMeShape], labels: Mapping[str, int], record: ImageRecord, path: Path,
    log: SourceLog,
) -> Detections:  # fmt: skip
    """The objects of one image. Raises ValueError naming the shape."""
    kept = {number: shape for number, shape in enumerate(shapes)
            if not _leave_out(shape, f"{path.name} shapes[{number}]", log)}  # fmt: skip
    for number, shape in kept.items():
        if shape["label"] not in labels:
            raise ValueError(
                f"shapes[{number}] has the label {shape['label']!r}, not in labels.txt"
            )
    has_masks = any(type_of(shape) != RECTANGLE for shape in kept.values())
    if has_masks:
        refuse_false_size(record.path, record.size)
    owners = _owners(kept) if has_masks else {}
    masks = _masks(kept, owners, record, log) if has_masks else {}
    clips = _clips(kept, owners, record) if has_masks else {}
    objects = []
    for number, shape in kept.items():
        if owners.get(number, number) != number:
            continue
        objects.append(SourceObject(
            kind=type_of(shape), where=f"{path.name} shapes[{number}]",
            label=labels[str(shape["label"])], box=() if has_masks else _box(shape),
            rle=masks.get(number), score=_score(shape),
            to=(_converted(type_of(shape)) or clips.get(number, "")) if has_masks else "",
            flags=frozenset({"difficult"} if shape.get("difficult") is True else ()),
        ))  # fmt: skip
    return gather(objects, record.size, log)


def _clips(
    kept: Mapping[int, LabelMeShape], owners: Mapping[int, int], record: ImageRecord
) -> dict[int, str]:
    """What the objects become of which a polygon or mask is partly outside the image, by number."""
    found: dict[int, str] = {}
    for number, shape in kept.items():
        kind, points = type_of(shape), np.array(shape["points"], dtype=np.float64)
        if kind == "mask":  # between two pixels, both of the mask
            points[-1] += len(points) > 1
        if kind in {"polygon", "quadrilateral", "mask"} and (to := clipped(points, record.size)):
            found[owners.get(number, number)] = MASK_CLIPPED if kind == "mask" else to
    return found


def _masks(
    kept: Mapping[int, LabelMeShape], owners: Mapping[int, int], record: ImageRecord, log: SourceLog
) -> dict[int, Rle]:
    """The mask of each object, by the number of its first shape. Further shapes are counted."""
    patches: dict[int, Patch] = {}
    for number, shape in kept.items():
        try:
            patch = draw_shape(shape, *record.size)
        except (ValueError, TypeError, cv2.error) as error:
            raise ValueError(f"shapes[{number}]: {error}") from error
        owner = owners[number]
        if owner in patches:
            patches[owner] = _union(patches[owner], patch, *record.size)
            log.note("shapes are parts of other objects, of the same label and group",
                     f"{record.file_name} shapes[{number}]")  # fmt: skip
            _count(type_of(shape), log)
        else:
            patches[owner] = patch
    return dict(zip(patches, encode_patches(list(patches.values()), *record.size), strict=True))


def _box(shape: LabelMeShape) -> list[float]:
    corners = np.array(shape["points"], dtype=np.float32)
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def _score(shape: LabelMeShape) -> float | None:
    """The confidence that X-AnyLabeling gives a prediction."""
    score = as_numbers(cast(JsonValue, shape.get("score")))
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        return None
    return float(score) if 0 <= score <= 1 else None


def _leave_out(shape: LabelMeShape, where: str, log: SourceLog) -> bool:
    """Whether a shape is left out, which is counted."""
    kind = type_of(shape)
    points = len(shape.get("points") or ())
    if kind not in DRAWN:
        log.leave_out(kind, "has no area" if kind in _NO_AREA else "an unknown shape", where)
    elif not shape.get("label"):
        log.leave_out(kind, "has no label", where)
    elif points < _LEAST_POINTS.get(kind, 2):
        log.leave_out(kind, f"has {points} points", where)
    else:
        return False
    return True


def _converted(kind: str) -> str:
    """What a shape among masks becomes; "" for one that is read as it is."""
    if kind == RECTANGLE:
        return "filled mask"
    return "mask" if kind in CONVERTED else ""


def _count(kind: str, log: SourceLog) -> None:
    if to := _converted(kind):
        log.convert(kind, to)
    else:
        log.read()


def _owners(kept: Mapping[int, LabelMeShape]) -> dict[int, int]:
    """For each shape, the number of the first shape of its label and group, or its own number."""
    first: dict[tuple[str | None, int | str], int] = {}
    return {
        number: number
        if (group := shape.get("group_id")) is None
        else first.setdefault((shape["label"], group), number)
        for number, shape in kept.items()
    }


def _union(first: Patch, second: Patch, height: int, width: int) -> Patch:
    return tight(paste(first, height, width) | paste(second, height, width))
