"""What ways of writing keep of real masks, after the reader of each has drawn them back.

python benchmarks/fidelity.py zipper_512 magnetic_tile transistor_1024
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import Faults
from pipeline.formats.labelme_shapes import draw_polygon
from pipeline.formats.mvtec import read_defect_mask, read_mvtec
from pipeline.geometry.masks import encode_patches, to_patch
from pipeline.geometry.patches import Patch, count_parts_and_holes, split_instances
from pipeline.geometry.polygons import (
    best_centre_ring,
    centre_ring,
    coco_rings,
    draw_centres,
    draw_coco,
    draw_yolo,
    patch_iou,
    to_yolo,
)
from pipeline.runtime.progress import track

Way = Callable[[Patch, int, int], Patch]


def rle(patch: Patch, height: int, width: int) -> Patch:
    """COCO RLE."""
    return to_patch(encode_patches([patch], height, width)[0])


def coco_polygons(patch: Patch, height: int, width: int) -> Patch:
    """COCO polygons as this project writes them: on pixel edges, with seams to holes."""
    return draw_coco(coco_rings(patch), height, width)


def contours_in_coco(patch: Patch, height: int, width: int) -> Patch:
    """The usual way: cv2.findContours rings as COCO polygons."""
    corner = np.array([patch.x, patch.y])
    contours, _ = cv2.findContours(
        patch.pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    return draw_coco([ring[:, 0] + corner for ring in contours if len(ring) >= 3], height, width)


def yolo(patch: Patch, height: int, width: int) -> Patch:
    """YOLO polygons as this project writes them, rounded to six digits as in the file."""
    draw = partial(_draw_first, height=height, width=width)
    return draw_yolo(to_yolo(best_centre_ring(patch, draw), height, width).round(6), height, width)


def yolo_without_half_a_pixel(patch: Patch, height: int, width: int) -> Patch:
    """YOLO polygons without what undoes ultralytics' truncation, nor holes."""
    ring = centre_ring(patch, holes=False) / np.array([width, height])
    return draw_yolo(ring.round(6), height, width)


def labelme(patch: Patch, height: int, width: int) -> Patch:
    """LabelMe polygons as this project writes them."""

    def draw(rings: list[np.ndarray]) -> Patch:
        return draw_polygon(rings[0], height, width)

    return draw([best_centre_ring(patch, draw)])


def _draw_first(rings: list[np.ndarray], height: int, width: int) -> Patch:
    return draw_centres(rings[0], height, width)


WAYS: dict[str, Way] = {
    "COCO RLE (ours); so too CVAT, Label Studio, LabelMe masks, PNG": rle,
    "COCO polygon (ours)": coco_polygons,
    "COCO polygon of `findContours`": contours_in_coco,
    "YOLO polygon (ours)": yolo,
    "YOLO polygon, outer ring, not shifted": yolo_without_half_a_pixel,
    "LabelMe polygon (ours)": labelme,
}


def main() -> None:
    """Print mean and minimal IoU, how many instances vanish, and how many holes are left."""
    dataset = read_mvtec([Path(name) for name in sys.argv[1:]], Faults(keep_going=True))
    ious: dict[str, list[float]] = {name: [] for name in WAYS}
    holes: dict[str, int] = dict.fromkeys(WAYS, 0)
    true_holes = 0
    for record in track(dataset.records, "instances"):
        mask = read_defect_mask(record)
        for patch in split_instances(mask)[0] if mask is not None else []:
            true_holes += count_parts_and_holes(patch)[1]
            for name, way in WAYS.items():
                drawn = way(patch, *record.size)
                ious[name].append(patch_iou(drawn, patch))
                holes[name] += count_parts_and_holes(drawn)[1]
    print("| way | mean IoU | minimal IoU | lost (IoU 0) | holes | instances |")
    print("|---|---|---|---|---|---|")
    for name, values in ious.items():
        lost = sum(value == 0 for value in values)
        found = f"{holes[name]} of {true_holes}"
        mean, least = np.mean(values), min(values)
        print(f"| {name} | {mean:.4f} | {least:.3f} | {lost} | {found} | {len(values)} |")


if __name__ == "__main__":
    main()
