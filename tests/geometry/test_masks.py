from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from pipeline.geometry import masks

random_masks = arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)))


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (mask_of("....", "...."), 0),
        (mask_of("#...", "...."), 1),
        (mask_of("#...", ".#.."), 1),  # a diagonal neighbour is a neighbour
        (mask_of("#.#.", "...."), 2),
        (mask_of("####", "####"), 1),
        (mask_of("###.", "#.#.", "###."), 1),  # a hole does not split
    ],
)
def test_instances_are_8_connected_components(mask: np.ndarray, expected: int) -> None:
    found, dropped = masks.instances(mask)
    assert (len(found), dropped) == (expected, 0)


@pytest.mark.parametrize(("gap", "expected"), [(0, 3), (1, 2), (2, 1)])
def test_bridging_joins_parts_at_most_so_many_background_pixels_apart(
    gap: int, expected: int
) -> None:
    mask = mask_of("#.#..#")  # gaps of 1 and 2
    found, _ = masks.instances(mask, bridge_gap=gap)
    assert len(found) == expected
    assert sum(masks.area(rle) for rle in found) == 3  # no pixel is added


def test_specks_below_the_threshold_are_left_out_and_counted() -> None:
    found, dropped = masks.instances(mask_of("#.##", "..##"), min_area=2)
    assert [masks.area(rle) for rle in found] == [4]
    assert dropped == 1


def test_one_instance_per_image_keeps_all_parts_together() -> None:
    found, _ = masks.instances(mask_of("#..#"), merge=True)
    assert [masks.area(rle) for rle in found] == [2]


@settings(max_examples=60, deadline=None)
@given(random_masks)
def test_components_lose_no_pixel_and_share_none(mask: np.ndarray) -> None:
    found, _ = masks.instances(mask)
    union = sum((masks.decode(rle).astype(int) for rle in found), np.zeros(mask.shape, int))
    assert (union == mask).all()


@settings(max_examples=60, deadline=None)
@given(random_masks)
def test_rle_is_pycocotools_own_and_loses_nothing(mask: np.ndarray) -> None:
    rle = masks.encode(mask)
    assert rle["counts"] == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert (masks.decode(rle) == mask).all()


def test_the_box_of_a_mask_is_half_open() -> None:
    mask = np.zeros((50, 60), bool)
    mask[5:15, 10:40] = True  # 30 wide: inclusive counting would say 29
    box = masks.bounding_boxes([masks.encode(mask)])[0]
    assert box.tolist() == [10, 5, 40, 15]


def test_a_filled_box_gives_back_the_box() -> None:
    box = np.array([10, 5, 40, 15], np.float32)
    assert masks.bounding_boxes([masks.from_box(box, 50, 60)])[0].tolist() == box.tolist()


def test_two_empty_masks_agree_and_an_empty_one_disagrees_with_any_other() -> None:
    empty, full = (masks.encode(np.full((4, 4), value)) for value in (False, True))
    assert masks.paired_iou(empty, empty) == 1.0
    assert masks.paired_iou(empty, full) == 0.0
    assert masks.boundary_iou(empty, empty) == 1.0


def test_boundary_iou_is_lower_than_mask_iou_for_a_wrong_outline() -> None:
    # a 60x60 square and the same one pixel wider: IoU 3600/3844, but only the outline is compared
    one, two = np.zeros((2, 100, 100), bool)
    one[20:80, 20:80] = True
    two[19:81, 19:81] = True
    first, second = masks.encode(one), masks.encode(two)
    assert masks.paired_iou(first, second) == pytest.approx(3600 / 3844)
    # width 2 % of 141.4 px = 3: rings of 60^2 - 54^2 = 684 and 62^2 - 56^2 = 708 pixels; they share
    # 60^2 - 56^2 = 464 of 684 + 708 - 464 = 928
    assert masks.boundary_iou(first, second) == pytest.approx(464 / 928)
