"""Small sets of labels, and sessions of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.formats.coco import write_coco
from pipeline.geometry.masks import Rle, encode
from pipeline.io.images import write_png
from pipeline.io.read import sha256_of
from pipeline.review.create import create_session
from pipeline.review.source import find_source, read_labels
from pipeline.review.store import ReviewStore
from pipeline.review.tables import SavedObject
from pipeline.review.values import ObjectValue, with_mask
from pipeline.types import Dataset, Detections, ImageRecord

SIZE = (48, 64)  # height, width
DISC_SIZE = (200, 300)
CATEGORIES = ("crack", "stain")


def block(x: int, y: int, side: int = 6, size: tuple[int, int] = SIZE) -> Rle:
    """A square of `side` pixels with its corner at (x, y)."""
    mask = np.zeros(size, bool)
    mask[y : y + side, x : x + side] = True
    return encode(mask)


def square(x: int, y: int, category: int = 0, side: int = 6) -> ObjectValue:
    return with_mask(block(x, y, side), category)


def draw_labels(
    folder: Path, images: int = 3, objects: int = 2, name: str = "part", finders: str = ""
) -> Path:
    """A COCO file of images with blocks, with the images beside it. The last image has none. The
    expected IoU of object k of the file is 0.1 k. finders: of the objects of an image, in words."""
    generator = np.random.default_rng(0)
    records, found = [], {}
    number = 0
    for image in range(1, images + 1):
        path = folder / "images" / f"{name}{image}.png"
        write_png(path, generator.integers(0, 255, (*SIZE, 3)).astype(np.uint8))
        records.append(ImageRecord(image, path, path.name, *SIZE))
        count = 0 if image == images else objects
        masks = [block(4 + 20 * k, 6 + 8 * k) for k in range(count)]
        iou = np.array([0.1 * (number + k + 1) for k in range(count)], np.float32)
        number += count
        if count:
            labels = np.arange(count) % len(CATEGORIES)
            boxes = Detections.from_masks(masks, 0).boxes
            found[image] = Detections(
                boxes,
                labels,
                iou,
                tuple(masks),
                quality={"expected_iou": iou},
                finders=tuple(finders.split()) or None,
            )
    path = folder / "instances.json"
    write_coco(path, Dataset(CATEGORIES, tuple(records), found))
    return path


def draw_discs(folder: Path) -> Path:
    """Two images with bright discs at (80, 100) and (220, 100). The first has a label on the left
    disc, a square; the second has none."""
    y, x = np.mgrid[0 : DISC_SIZE[0], 0 : DISC_SIZE[1]]
    image = np.full((*DISC_SIZE, 3), 40, np.uint8)
    for centre in (80, 220):
        image[(x - centre) ** 2 + (y - 100) ** 2 <= 30**2] = 200
    square = np.zeros(DISC_SIZE, bool)
    square[80:120, 60:100] = True
    records = []
    for number in (1, 2):
        path = folder / "images" / f"disc{number}.png"
        write_png(path, image)
        records.append(ImageRecord(number, path, path.name, *DISC_SIZE))
    objects = {1: Detections.from_masks([encode(square)], 0)}
    path = folder / "instances.json"
    write_coco(path, Dataset(("disc", "dent"), tuple(records), objects))
    return path


def session(labels: Path) -> Path:
    """A new session of labels."""
    source = find_source(labels)
    root = source.images or labels.parent
    create_session(source.session, read_labels(source), root, sha256_of(labels))
    return source.session


def opened(folder: Path, images: int = 3, objects: int = 2) -> ReviewStore:
    return ReviewStore(session(draw_labels(folder, images, objects)))


def with_mask_of(saved: SavedObject, category: int) -> ObjectValue:
    """An object that a person gave another category."""
    assert saved.value is not None
    return saved.value.model_copy(update={"category": category, "state": "accepted"})
