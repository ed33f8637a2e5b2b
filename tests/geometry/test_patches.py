from __future__ import annotations

import cv2
import numpy as np
import pytest
import strategies
from hypothesis import given, settings

from pipeline.geometry import masks, patches


@settings(max_examples=150, deadline=None)
@given(strategies.masks)
def test_components_are_opencvs_and_lose_no_pixel(mask: np.ndarray) -> None:
    found = patches.components(mask)
    count = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    assert len(found) == count
    union = sum((patches.paste(part, *mask.shape).astype(int) for part in found),
                np.zeros(mask.shape, int))  # fmt: skip
    assert (union == mask).all()
    assert all(patches.tight(part.pixels).pixels.shape == part.pixels.shape for part in found)


def test_components_stand_in_the_order_of_their_topmost_pixels() -> None:
    mask = np.zeros((10, 20), bool)
    mask[5, 1] = mask[2, 15] = mask[2:4, 8] = True
    assert [(part.y, part.x) for part in patches.components(mask)] == [(2, 8), (2, 15), (5, 1)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["..."], (0, 0)),
        (["#.#"], (2, 0)),
        (["###", "#.#", "###"], (1, 1)),
        (["#####", "#.#.#", "#####"], (1, 2)),
        (["##", "#."], (1, 0)),  # a bay is no hole
        (["#.", ".#"], (1, 0)),  # pixels that meet at a corner are one part
    ],
)
def test_parts_and_holes_are_counted(rows: list[str], expected: tuple[int, int]) -> None:
    mask = np.array([[cell == "#" for cell in row] for row in rows])
    assert patches.count_parts_and_holes(patches.tight(mask)) == expected


@settings(max_examples=150, deadline=None)
@given(strategies.masks)
def test_a_patch_is_encoded_to_pycocotools_bytes_and_comes_back(mask: np.ndarray) -> None:
    patch = patches.tight(mask)
    (rle,) = masks.encode_patches([patch], *mask.shape)
    assert rle == masks.encode(mask)
    found = masks.to_patch(rle)
    assert (patches.paste(found, *mask.shape) == mask).all()
    assert found.pixels.shape == patch.pixels.shape


@settings(max_examples=60, deadline=None)
@given(strategies.masks)
def test_instances_together_are_encoded_as_each_alone(mask: np.ndarray) -> None:
    found = patches.components(mask)
    alone = [masks.encode(patches.paste(part, *mask.shape)) for part in found]
    assert masks.encode_patches(found, *mask.shape) == alone


def test_runs_longer_than_a_thousand_million_pixels_would_fit() -> None:
    patch = patches.Patch(3, 2, np.ones((1, 1), bool))
    (rle,) = masks.encode_patches([patch], 40_000, 40_000)  # 1.6e9 pixels: no full frame is made
    assert masks.area(rle) == 1
    assert masks.bounding_boxes([rle])[0].tolist() == [3, 2, 4, 3]
    assert masks.to_patch(rle).box == (3, 2, 4, 3)


@pytest.mark.parametrize("counts", [b"", b"0", b"PP", b"S5O"])
def test_runs_that_do_not_cover_the_frame_are_refused(counts: bytes) -> None:
    with pytest.raises(ValueError, match="runs cover"):
        masks.check_runs(counts, 4, 5)
