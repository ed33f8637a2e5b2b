from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.geometry import masks as mask_geometry
from pipeline.metrics.localization import Localization, localization
from pipeline.types import Dataset, Detections, ImageRecord


def block(x: int, y: int, side: int) -> mask_geometry.Rle:
    mask = np.zeros((20, 30), bool)
    mask[y : y + side, x : x + side] = True
    return mask_geometry.encode(mask)


def dataset(**images: list[mask_geometry.Rle]) -> Dataset:
    """An image for each name, in the split `test`, but `train` in `train`."""
    records = tuple(
        ImageRecord(i, Path(name), f"{name}.png", 20, 30,
                    split="train" if name == "train" else "test")
        for i, name in enumerate(images, start=1)
    )  # fmt: skip
    masks = images.values()
    objects = {i: Detections.from_masks(found, 0) for i, found in enumerate(masks, start=1)}
    return Dataset(("defect",), records, objects)


def test_nothing_is_localized_on_no_images() -> None:
    nothing = localization(dataset(), dataset())
    assert nothing.pixel_iou is None
    assert (nothing.defects, nothing.labels, nothing.good_images) == (0, 0, 0)


def test_pieces_and_unions_of_defects_count_as_found() -> None:
    truth = dataset(
        one=[block(0, 0, 8)],  # 64 pixels, labelled in two pieces of 4 x 4
        two=[block(0, 0, 2), block(4, 4, 2)],  # 8 pixels, both in one label of 6 x 6
        missed=[block(10, 10, 4)],  # 16 pixels without a label
        good=[],
        false=[],  # a good image with a label of 9 pixels
        train=[block(0, 0, 9)],
    )
    predictions = dataset(
        one=[block(0, 0, 4), block(4, 4, 4)], two=[block(0, 0, 6)], missed=[], good=[],
        false=[block(20, 10, 3)], train=[],
    )  # fmt: skip
    assert localization(truth, predictions, "test") == Localization(
        defects=4, defects_found=3, labels=4, labels_on_a_defect=3,
        defective_images=3, defective_images_labelled=2, good_images=2, good_images_labelled=1,
        pixel_iou=0.32,  # shared 32 + 8; united 64 + 36 + 16 + 9 = 125: 40 / 125 = 0.32
    )  # fmt: skip


def test_images_without_predictions_in_the_file_are_left_out() -> None:
    assert localization(dataset(one=[block(0, 0, 4)]), dataset(two=[])).defects == 0
