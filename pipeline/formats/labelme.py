"""LabelMe: one JSON file beside each image.

A shape of type `mask` holds the pixels of its rectangle as a PNG, and loses nothing. Its two points
are the first and the last pixel, both inside (labelme/shape.py). A polygon can be edited; PIL draws
it, and takes a vertex for the centre of a pixel. The rings of one object share a `group_id`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.coco_masks import refuse_far
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.labelme_schema import LabelMeShape, read_labelme_file, refuse_large_png
from pipeline.formats.schema import Text, file_name
from pipeline.formats.values import labels_by_name
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import Rle, bounding_boxes, encode_patches, to_patch
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.geometry.polygons import Ring, best_centre_ring, patch_iou, simplified
from pipeline.io.read import checked, read_text, shown_value
from pipeline.io.write import place_file, write_json, write_text
from pipeline.types import Dataset, Detections, ImageRecord

_VERSION = "5.5.0"
_NAME = TypeAdapter(Text)


def write_labelme(
    root: Path, dataset: Dataset, copy_images: bool = False, loss: float | None = None
) -> None:
    """Write a JSON file beside each image, and labels.txt for `labelme --labels`.

    loss: None writes masks. A number writes polygons that lose at most this share of IoU, and a
    mask for an object whose polygon would lose more. An object without mask is a rectangle. The
    description of a shape is its confidence columns.
    """
    dataset.refuse_equal_stems()
    for record in dataset.records:
        target = root / record.file_name
        place_file(record.path, target, copy_images)
        content: dict[str, JsonValue] = {
            "version": _VERSION,
            "flags": {},
            "shapes": [*_shapes(dataset.on(record), dataset.categories, record.size, loss)],
            "imagePath": target.name,
            "imageData": None,
            "imageHeight": record.height,
            "imageWidth": record.width,
        }
        write_json(target.with_suffix(".json"), content)
    write_text(root / "labels.txt", "".join(f"{name}\n" for name in dataset.categories))


def read_labelme(root: Path, images: Path | None = None) -> Dataset:
    """Read every LabelMe file below a folder.

    Categories are the names in labels.txt; without that file, the sorted names of the shapes.
    Masks, polygons and rectangles become masks as LabelMe draws them. On an image with rectangles
    alone, they stay boxes. images: the folder of images; without it, each lies beside its file.
    Raises DataError naming the file at fault.
    """
    files = [path for path in sorted(root.rglob("*.json")) if path.name != "run.json"]
    contents = {path: file for path in files if (file := read_labelme_file(path)) is not None}
    if not contents:
        raise DataError(root, "holds no LabelMe file", "give the folder of the JSON files")
    used = sorted({shape["label"] for content in contents.values() for shape in content["shapes"]})
    categories = _categories(root / "labels.txt") or used
    labels = labels_by_name(categories)
    records, objects = [], {}
    for number, (path, content) in enumerate(contents.items(), start=1):
        size = content["imageHeight"], content["imageWidth"]
        image = path.parent / content["imagePath"].replace("\\", "/")  # from Windows
        name = (path.relative_to(root).parent / image.name).as_posix()
        place = images / name if images else image
        try:
            file_name(content["imagePath"])
            file_name(name)
            records.append(ImageRecord(number, place, name, *size))
            objects[number] = _parse(content["shapes"], labels, place, size)
        except ValueError as error:
            raise DataError(path, f"is not a LabelMe file ({error})", "correct it") from error
    return Dataset(tuple(categories), tuple(records), objects)


def _categories(listing: Path) -> list[str]:
    """The names in labels.txt; none without the file."""
    if not listing.is_file():
        return []
    names = read_text(listing).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [checked(_NAME, name, listing) for name in names if name.strip()]


def _shapes(
    objects: Detections, categories: Sequence[str], size: tuple[int, int], loss: float | None
) -> list[dict[str, JsonValue]]:
    shapes = []
    for row, label in enumerate(objects.labels):
        columns = objects.confidence_columns.items()
        entry: dict[str, JsonValue] = {
            "label": categories[int(label)],
            "group_id": None,
            "flags": {},
            "description": ", ".join(f"{key} {column[row]:.2f}" for key, column in columns),
        }
        x0, y0, x1, y1 = objects.boxes[row].tolist()
        if objects.masks is None:  # a rectangle's last pixel is drawn too
            shapes.append(entry | {"shape_type": "rectangle", "points": [[x0, y0], [x1, y1]]})
            continue
        patch = to_patch(objects.masks[row])
        if not patch.pixels.size:
            continue
        ring = _ring(patch, size, loss)
        if ring is not None:
            shapes.append(entry | {"shape_type": "polygon", "points": ring.tolist()})
            continue
        _, png = cv2.imencode(".png", patch.pixels.astype(np.uint8))
        left, top, right, bottom = patch.box
        shapes.append(
            entry
            | {
                "shape_type": "mask",
                "points": [[left, top], [right - 1, bottom - 1]],
                "mask": base64.b64encode(png.tobytes()).decode("ascii"),
            }
        )
    return shapes


def _ring(patch: Patch, size: tuple[int, int], loss: float | None) -> Ring | None:
    if loss is None:
        return None

    def draw(rings: Sequence[Ring]) -> Patch:
        return draw_polygon(rings[0], *size)

    rings = simplified([best_centre_ring(patch, draw)], patch, draw, loss)
    return rings[0] if patch_iou(patch, draw(rings)) >= 1 - loss else None


def draw_polygon(ring: Ring, height: int, width: int) -> Patch:
    """The pixels of a polygon (P, 2) xy, drawn by PIL as in `labelme.utils.shape_to_mask`. It is
    drawn on the whole image, because PIL's rounding depends on the place of a polygon."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (width, height))
    points = [tuple(point) for point in ring.tolist()]
    ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
    return tight(np.asarray(canvas) > 0)


def _parse(
    shapes: Sequence[LabelMeShape], labels: Mapping[str, int], image: Path, size: tuple[int, int]
) -> Detections:
    """The objects of one image. Raises ValueError naming the shape."""
    if not shapes:
        return Detections.none()
    for number, shape in enumerate(shapes):
        if shape["label"] not in labels:
            raise ValueError(
                f"shapes[{number}] has the label {shape['label']!r}, not in labels.txt"
            )
    column = [labels[shape["label"]] for shape in shapes]
    if all(shape.get("shape_type") == "rectangle" for shape in shapes):
        corners = [np.array(shape["points"], dtype=np.float32) for shape in shapes]
        boxes = as_boxes([[*c.min(axis=0), *c.max(axis=0)] for c in corners])
        return Detections(boxes, np.array(column, dtype=np.int64))
    refuse_false_size(image, size)
    masks: dict[int, Patch] = {}
    for number, (shape, owner) in enumerate(zip(shapes, _owners(shapes), strict=True)):
        try:
            patch = _draw(shape, *size)
        except (ValueError, TypeError, cv2.error) as error:  # TypeError: PIL's, of one point
            raise ValueError(f"shapes[{number}]: {error}") from error
        masks[owner] = _union(masks[owner], patch, *size) if owner in masks else patch
    rles: list[Rle] = encode_patches(list(masks.values()), *size)
    labels_of_objects = np.array([column[owner] for owner in masks], dtype=np.int64)
    return Detections(bounding_boxes(rles), labels_of_objects, masks=tuple(rles))


def _owners(shapes: Sequence[LabelMeShape]) -> list[int]:
    """For each shape, the index of the first shape of its group, or its own index."""
    first: dict[int | str, int] = {}
    groups = [shape.get("group_id") for shape in shapes]
    return [
        index if group is None else first.setdefault(group, index)
        for index, group in enumerate(groups)
    ]


def _union(first: Patch, second: Patch, height: int, width: int) -> Patch:
    return tight(paste(first, height, width) | paste(second, height, width))


def _draw(shape: LabelMeShape, height: int, width: int) -> Patch:
    points = np.array(shape["points"], dtype=np.float64)
    shape_type = shape.get("shape_type") or "polygon"
    if shape_type == "mask":
        return _draw_mask(shape.get("mask") or "", points[0], height, width)
    if shape_type == "rectangle":
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    elif shape_type != "polygon":
        raise ValueError(f"shapes of type {shown_value(shape_type)} have no area here")
    refuse_far(points, (height, width))
    return draw_polygon(points, height, width)


def _draw_mask(text: str, corner: NDArray[np.float64], height: int, width: int) -> Patch:
    """The pixels of a PNG in base64, whose top left pixel is at `corner`. Raises ValueError."""
    png = base64.b64decode(text)
    refuse_large_png(png, height, width)
    pixels = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 2:
        raise ValueError("a mask is not a grey PNG")
    left, top = np.rint(corner).astype(int).tolist()
    if not (-len(pixels) <= top <= height and -len(pixels[0]) <= left <= width):
        raise ValueError("a mask lies outside the image")
    return tight(paste(Patch(left, top, np.asarray(pixels != 0)), height, width))
