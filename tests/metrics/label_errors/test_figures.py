"""A label of 10 x 10 pixels on a picture of 40 x 40, against predictions of known shape."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.geometry.patches import Patch, paste
from pipeline.metrics.label_errors.figures import (
    NAMES,
    labelled_region,
    likeliest_other,
    object_figures,
    unlabelled_regions,
)

SQUARE = Patch(10, 10, np.ones((10, 10), bool))


def prediction(patch: Patch | None, label: int = 0, high: float = 0.9) -> NDArray[np.float32]:
    """Two categories: `high` for one in a patch, 0.05 for both elsewhere."""
    values = np.full((3, 40, 40), 0.05, np.float32)
    if patch is not None:
        values[1 + label][paste(patch, 40, 40)] = high
    values[0] = np.clip(1 - values[1:].sum(axis=0), 0, 1)
    return values


def figures(patch: Patch, predicted: Patch | None, label: int = 0) -> dict[str, float]:
    taken = paste(patch, 40, 40)
    return dict(zip(NAMES, object_figures(prediction(predicted), patch, label, taken), strict=True))


def share(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def test_a_right_label_is_full_of_defect_and_empty_around() -> None:
    right = figures(SQUARE, SQUARE)
    assert share(right["inside"]) == pytest.approx(0.95)  # 0.9 and the other category's 0.05
    assert share(right["rim"]) == pytest.approx(0.1)  # 0.05 of each category
    assert share(right["overlap"]) == pytest.approx(0.98)  # 1, clipped
    assert right["size"] == pytest.approx(np.log(100))
    assert right["elongation"] == 0


def test_a_label_on_nothing_has_nothing_inside() -> None:
    empty = figures(SQUARE, None)
    assert share(empty["inside"]) == pytest.approx(0.1)
    assert share(empty["overlap"]) == pytest.approx(0.02)  # 0, clipped


def test_a_shifted_label_overlaps_in_part() -> None:
    shifted = figures(SQUARE, Patch(15, 10, SQUARE.pixels))
    assert share(shifted["overlap"]) == pytest.approx(50 / 150)  # half of each square is shared


def test_another_category_has_another_share() -> None:
    assert share(figures(SQUARE, SQUARE, 0)["own"]) == pytest.approx(0.9 / 0.95)
    assert share(figures(SQUARE, SQUARE, 1)["own"]) == pytest.approx(0.05 / 0.95)
    assert likeliest_other(prediction(SQUARE, 1), SQUARE, 0) == 1
    assert likeliest_other(prediction(SQUARE)[:2], SQUARE, 0) == 0  # there is no other


def test_pixels_of_other_labels_do_not_count() -> None:
    both = Patch(10, 10, np.ones((10, 20), bool))
    taken = paste(both, 40, 40)
    seen = object_figures(prediction(both), SQUARE, 0, taken)
    assert share(seen[NAMES.index("overlap")]) == pytest.approx(0.98)
    alone = object_figures(prediction(both), SQUARE, 0, paste(SQUARE, 40, 40))
    overlap = share(alone[NAMES.index("overlap")])
    assert overlap == pytest.approx(100 / 180)  # 8 of the other's 10 columns are near


@pytest.mark.parametrize(
    ("labelled", "predicted", "least", "count"),
    [
        (None, None, 4, 0),
        (None, SQUARE, 4, 1),
        (None, SQUARE, 101, 0),  # smaller than what is looked for
        (SQUARE, SQUARE, 4, 0),  # it has a label
        (Patch(0, 0, np.ones((4, 4), bool)), SQUARE, 4, 1),
    ],
)
def test_a_region_without_a_label_is_a_suspect(
    labelled: Patch | None, predicted: Patch | None, least: float, count: int
) -> None:
    taken = np.zeros((40, 40), bool) if labelled is None else paste(labelled, 40, 40)
    regions = unlabelled_regions(prediction(predicted), taken, least)
    assert len(regions) == count
    for region in regions:
        assert region.patch.box == SQUARE.box
        assert region.category == 0


def test_a_labelled_region_is_what_is_predicted_there() -> None:
    wide = Patch(8, 8, np.ones((14, 14), bool))
    region = labelled_region(prediction(wide, 1), SQUARE, paste(SQUARE, 40, 40))
    assert region is not None
    assert region.patch.box == wide.box
    assert region.category == 1
    assert labelled_region(prediction(None), SQUARE, paste(SQUARE, 40, 40)) is None
