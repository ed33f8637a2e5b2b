"""What a conversion keeps of real masks: IoU of each instance after its reader drew it back.

python benchmarks/fidelity.py zipper_512 magnetic_tile transistor_1024
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from pipeline.errors import Faults
from pipeline.formats.mvtec import read_defect_mask, read_mvtec
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.polygons import draw_yolo, pixel_centre_ring, to_yolo
from pipeline.progress import track


def find_contours_coco(mask: np.ndarray) -> np.ndarray:
    """The usual way: cv2.findContours rings as COCO polygons, drawn back by pycocotools."""
    rings, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [ring.ravel().astype(float).tolist() for ring in rings if len(ring) >= 3]
    if not polygons:
        return np.zeros_like(mask)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))) > 0


def plain_yolo(mask: np.ndarray) -> np.ndarray:
    """YOLO polygons without the half pixel that undoes ultralytics' truncation."""
    height, width = mask.shape
    return draw_yolo(pixel_centre_ring(mask) / np.array([width, height]), height, width)


def our_yolo(mask: np.ndarray) -> np.ndarray:
    """YOLO polygons as this project writes them, rounded to six digits as in the file."""
    return draw_yolo(to_yolo(pixel_centre_ring(mask), *mask.shape).round(6), *mask.shape)


def rle(mask: np.ndarray) -> np.ndarray:
    """COCO RLE."""
    return mask_geometry.decode(mask_geometry.encode(mask))


def main() -> None:
    """Print mean and minimal IoU and how many instances vanish, for each way."""
    ways = {
        "COCO RLE (ours)": rle,
        "YOLO polygon (ours)": our_yolo,
        "YOLO polygon, plain": plain_yolo,
        "COCO polygon of findContours": find_contours_coco,
    }
    ious: dict[str, list[float]] = {name: [] for name in ways}
    dataset = read_mvtec([Path(name) for name in sys.argv[1:]], Faults(keep_going=True))
    for record in track(dataset.records, "instances"):
        mask = read_defect_mask(record)
        for instance in mask_geometry.instances(mask)[0] if mask is not None else []:
            true = mask_geometry.decode(instance)
            for name, way in ways.items():
                drawn = mask_geometry.encode(way(true))
                ious[name].append(mask_geometry.paired_iou(drawn, instance))
    print("| way | mean IoU | minimal IoU | lost (IoU 0) | instances |\n|---|---|---|---|---|")
    for name, values in ious.items():
        lost = sum(value == 0 for value in values)
        mean, least = np.mean(values), min(values)
        print(f"| {name} | {mean:.4f} | {least:.3f} | {lost} | {len(values)} |")


if __name__ == "__main__":
    main()
