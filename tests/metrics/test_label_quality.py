"""How good a set of labels is, defect by defect."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from segmenters import Block, blocks_of

from pipeline.metrics.label_quality import (
    ImageLabels,
    compare_labels,
    false_labels,
    label_iou,
    label_quality,
)
from pipeline.types import Detections

SIZE = (40, 60)
NAMES = ("crack", "stain")


def compared(truth: list[Block], predicted: list[Block], group: str = "a") -> ImageLabels:
    return compare_labels(blocks_of(SIZE, truth), blocks_of(SIZE, predicted), NAMES, group)


def test_no_image_has_no_quality() -> None:
    with pytest.raises(ValueError, match="no image"):
        label_quality([])
    with pytest.raises(ValueError, match="no image"):
        false_labels([])
    assert label_iou([]) is None


def test_an_image_without_defects_and_labels_has_no_figure_of_either() -> None:
    image = compare_labels(Detections.none(), Detections.none(), NAMES, "a")
    quality = label_quality([image])
    assert (quality.images, quality.defects, quality.found, quality.touched) == (1, 0, 0, 0)
    assert (quality.label_iou, quality.label_iou_interval, quality.pixel_iou) == (None,) * 3
    assert quality.false_labels == 0


def test_a_label_on_a_good_image_is_false() -> None:
    """One label, no pixel of a defect: 0 of 100 pixels."""
    quality = label_quality([compared([], [(0, 0, 0, 10, 10)])])
    assert (quality.false_labels, quality.pixel_iou, quality.label_iou) == (1, 0, None)


def test_a_missed_defect_counts_as_0() -> None:
    quality = label_quality([compared([(0, 0, 0, 10, 10)], [])])
    assert (quality.label_iou, quality.named_label_iou, quality.pixel_iou) == (0, 0, 0)
    assert (quality.found, quality.touched, quality.false_labels) == (0, 0, 0)


@pytest.mark.parametrize(
    ("width", "iou", "found"),
    [(10, 1.0, 1), (5, 0.5, 1), (4, 0.4, 0), (20, 0.5, 1)],
)
def test_a_defect_is_found_from_an_iou_of_a_half(width: int, iou: float, found: int) -> None:
    """A defect of 10 x 10, and a label as high and `width` wide from the same corner."""
    quality = label_quality([compared([(0, 0, 0, 10, 10)], [(0, 0, 0, width, 10)])])
    assert (quality.label_iou, quality.found, quality.touched) == (iou, found, 1)
    assert quality.pixel_iou == iou


def test_a_wrong_name_is_a_miss_of_the_named_figure_alone() -> None:
    image = compared([(0, 0, 0, 10, 10)], [(1, 0, 0, 10, 10)])
    assert (image.defects[0].category, image.defects[0].area) == ("crack", 100)
    quality = label_quality([image])
    assert (quality.label_iou, quality.named_label_iou) == (1, 0)


def test_two_labels_on_one_defect_are_matched_once_and_neither_is_false() -> None:
    """The left one covers 0.6 of it, the right one 0.4."""
    image = compared([(0, 0, 0, 10, 10)], [(0, 6, 0, 10, 10), (0, 0, 0, 6, 10)])
    assert image.defects[0].iou == pytest.approx(0.6)
    assert image.false == 0
    assert (image.shared, image.united) == (100, 100)


def test_a_label_over_two_defects_is_matched_with_one_and_touches_both() -> None:
    """Defects of 10 x 10 and 5 x 10 under a label of 15 x 10: IoU 2/3 for the larger."""
    image = compared([(0, 0, 0, 10, 10), (0, 10, 0, 15, 10)], [(0, 0, 0, 15, 10)])
    assert [defect.iou for defect in image.defects] == pytest.approx([2 / 3, 0])
    assert [defect.is_touched for defect in image.defects] == [True, True]


def test_defects_and_labels_are_matched_with_the_largest_sum() -> None:
    """The wide label shares 150 of 250 pixels with the first defect (0.6), and 50 of 250 with the
    second (0.2); the left one 90 of 200 with the first (0.45). By itself the wide one would take
    the first: 0.6. Together they reach 0.45 + 0.2."""
    first, second = (0, 0, 0, 20, 10), (0, 20, 0, 30, 10)
    wide, left = (0, 5, 0, 25, 10), (0, 0, 0, 9, 10)
    image = compared([first, second], [wide, left])
    assert [defect.iou for defect in image.defects] == pytest.approx([0.45, 0.2])


def test_figures_are_means_over_defects_and_images() -> None:
    """IoU 1, 0.5 and 0: 0.5. False: 1 label on 2 images. Pixels: 150 of 100 + 100 + 100 + 25."""
    images = [
        compared([(0, 0, 0, 10, 10)], [(0, 0, 0, 10, 10)], "a"),
        compared(
            [(1, 0, 0, 10, 10), (1, 20, 20, 30, 30)],
            [(1, 0, 0, 5, 10), (1, 40, 0, 45, 5)],
            "b",
        ),
    ]
    quality = label_quality(images)
    assert (quality.images, quality.defects, quality.found, quality.touched) == (2, 3, 2, 2)
    assert quality.label_iou == label_iou(images) == 0.5
    assert quality.false_labels == false_labels(images) == 0.5
    assert quality.pixel_iou == pytest.approx(150 / 325, abs=1e-4)
    assert quality.label_iou_interval is not None
    low, high = quality.label_iou_interval
    assert 0 <= low <= 0.5 <= high <= 1


def test_one_group_has_an_interval_of_its_figure() -> None:
    """Images of one object are drawn together: there is one draw."""
    images = [
        compared([(0, 0, 0, 10, 10)], [(0, 0, 0, 10, 10)], "a"),
        compared([(0, 0, 0, 10, 10)], [], "a"),
    ]
    assert label_quality(images).label_iou_interval == (0.5, 0.5)


def test_pixels_and_ious_are_those_of_pycocotools() -> None:
    generator = np.random.default_rng(0)

    def blocks(count: int) -> list[Block]:
        return [
            (0, x, y, x + w, y + h)
            for x, y, w, h in generator.integers(
                [0, 0, 1, 1], [40, 25, 20, 15], (count, 4)
            ).tolist()
        ]

    for _ in range(20):
        truth, found = (blocks_of(SIZE, blocks(int(generator.integers(1, 5)))) for _ in range(2))
        image = compare_labels(truth, found, NAMES, "a")
        ious = coco_mask.iou(list(found.masks or ()), list(truth.masks or ()), [0] * len(truth))
        assert image.false == int((ious.max(axis=1) == 0).sum())
        assert [d.is_touched for d in image.defects] == (ious.max(axis=0) > 0).tolist()
        best = max(
            (sum(ious[row, column] for row, column in pairs) for pairs in matchings(*ious.shape)),
        )
        assert sum(defect.iou for defect in image.defects) == pytest.approx(best)
        both = [coco_mask.decode(coco_mask.merge(list(o.masks or ()))) for o in (truth, found)]
        assert image.shared == int((both[0] & both[1]).sum())
        assert image.united == int((both[0] | both[1]).sum())


def matchings(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    """Every way to match rows with columns one to one."""
    if rows == 0:
        return [[]]
    found = matchings(rows - 1, columns)
    return found + [
        [*pairs, (rows - 1, column)]
        for pairs in found
        for column in range(columns)
        if column not in {taken for _, taken in pairs}
    ]
