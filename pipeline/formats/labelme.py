"""LabelMe, written: one JSON file beside each image.

A shape of type `mask` holds the pixels of its rectangle as a PNG, and loses nothing. Its two points
are the first and the last pixel, both inside (labelme/shape.py). A polygon can be edited; PIL draws
it, and takes a vertex for the centre of a pixel. The rings of one object share a `group_id`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from pydantic import JsonValue

from pipeline.formats.labelme_shapes import draw_polygon
from pipeline.geometry.masks import to_patch
from pipeline.geometry.patches import Patch
from pipeline.geometry.polygons import Ring, best_centre_ring, patch_iou, simplified
from pipeline.io.image_copies import place_image
from pipeline.io.write import write_json, write_text
from pipeline.types import Dataset, Detections

_VERSION = "5.5.0"


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
        place_image(record.path, target, copy_images)
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
