"""Masks to COCO: ours against decoding alone, ultralytics, supervision, skimage and pycocotools.

python benchmarks/conversion.py            400 masks of 1024x1024, one thread, interleaved

Each way is timed on the same image before the next image comes; medians over all images and rounds.
Ours yields JSON rows with box, area and RLE of each instance, and these bytes are compared with
pycocotools' before anything is timed.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from drawn_masks import write_product
from numpy.typing import NDArray

from pipeline.formats.coco_rows import row_texts
from pipeline.geometry.masks import encode_patches
from pipeline.geometry.patches import split_instances
from pipeline.io.mask_files import read_mask
from pipeline.models import ultralytics_offline
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.types import Detections, ImageRecord

IMAGES, ROUNDS = 400, 3
RECORD = ImageRecord(1, Path("a.png"), "a.png", 1024, 1024)


def ours(path: Path) -> list[str]:
    """What convert-masks does with a mask: read, cut into instances, write COCO rows."""
    mask = read_mask(path)
    patches, _ = split_instances(mask)
    return row_texts(RECORD, Detections.from_masks(encode_patches(patches, *mask.shape), 0))


def grey(path: Path) -> NDArray[np.uint8]:
    """The pixels of a mask, as OpenCV reads them."""
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def by_pycocotools(path: Path) -> list[str]:
    """The plain way: components on the full frame, each encoded by pycocotools."""
    from pycocotools import mask as coco_mask

    mask = grey(path)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    rows = []
    for label in range(1, count):
        rle = coco_mask.encode(np.asfortranarray(labels == label, dtype=np.uint8))
        box = coco_mask.toBbox(rle).tolist()
        rows.append(json.dumps({"bbox": box, "area": int(coco_mask.area(rle)),
                                "counts": rle["counts"].decode()}))  # fmt: skip
    return rows


def by_ultralytics(path: Path) -> None:
    """ultralytics' own function, on a folder of this one mask; value 255 is its class 254."""
    from ultralytics.data.converter import convert_segment_masks_to_yolo_seg

    convert_segment_masks_to_yolo_seg(str(path.parent), str(path.parent / "out"), 255)


def by_supervision(path: Path) -> None:
    """supervision's way from a mask to COCO annotations."""
    import supervision
    from supervision.dataset.formats.coco import detections_to_coco_annotations

    mask = grey(path)
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    masks = np.stack([labels == label for label in range(1, count)])
    detections = supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks), mask=masks, class_id=np.zeros(len(masks), int)
    )
    json.dumps(detections_to_coco_annotations(detections, 1, 1)[0], default=int)


def by_skimage(path: Path) -> None:
    """The recipe of many tutorials: regionprops, and find_contours of each region."""
    from skimage.measure import find_contours, label, regionprops

    labels = label(grey(path) > 0, connectivity=2)
    for region in regionprops(labels):
        find_contours(np.pad(region.image, 1), 0.5)
        json.dumps({"bbox": region.bbox, "area": float(region.area)})


WAYS: dict[str, Callable[[Path], object]] = {
    "ours": ours,
    "decoding alone, cv2.imread grey": lambda path: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE),
    "decoding alone, cv2.imread as it comes": lambda path: cv2.imread(str(path)),
    "components and pycocotools on full frames": by_pycocotools,
    "ultralytics convert_segment_masks_to_yolo_seg": by_ultralytics,
    "supervision to COCO annotations": by_supervision,
    "skimage regionprops and find_contours": by_skimage,
}


def main() -> None:
    """Print the median of each way and how many times ours it takes."""
    ultralytics_offline.load()
    from ultralytics.utils import LOGGER

    LOGGER.setLevel("ERROR")
    cv2.setNumThreads(1)
    keep_freed_memory()  # for all ways alike: it helps each of them
    images = int(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    with tempfile.TemporaryDirectory() as folder:
        masks = sorted((write_product(Path(folder), images) / "ground_truth" / "blob").iterdir())
        paths = []
        for mask in masks:  # a folder each, because ultralytics takes folders
            paths.append(Path(folder) / mask.stem / mask.name)
            paths[-1].parent.mkdir()
            paths[-1].hardlink_to(mask)
        instances = _compare(paths)
        times = _time(paths)
    medians = {name: 1000 * statistics.median(seconds) for name, seconds in times.items()}
    print(f"{images} masks, {instances} instances: the same bytes as pycocotools\n")
    print("| way | ms an image, median | times ours |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['ours']:.2f} |")


def _compare(paths: list[Path]) -> int:
    """Raises AssertionError when a row differs from pycocotools'."""
    count = 0
    for path in paths:
        rows = [json.loads(row) for row in ours(path)]
        actual = sorted((row["segmentation"]["counts"], row["area"], *row["bbox"]) for row in rows)
        theirs = [json.loads(row) for row in by_pycocotools(path)]
        expected = sorted((row["counts"], row["area"], *row["bbox"]) for row in theirs)
        if actual != expected:
            raise AssertionError(f"{path.name} differs from pycocotools")
        count += len(actual)
    return count


def _time(paths: list[Path]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(ROUNDS + 1):
        for path in paths if turn else paths[:10]:  # the first round warms up
            for name, way in WAYS.items():
                start = time.perf_counter()
                way(path)
                if turn:
                    times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
