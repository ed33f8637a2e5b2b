from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry.patches import Patch, paste
from pipeline.metrics.label_errors.planted import (
    KINDS,
    drawn_error,
    loosened,
    on_nothing,
    other_category,
    shifted,
)

SQUARE = Patch(10, 10, np.ones((10, 10), bool))
SIZE = (40, 40)


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 12), st.integers(0, 39))
@settings(max_examples=40, deadline=None)
def test_every_error_is_another_label_inside_the_image(
    seed: int, height: int, width: int, x: int
) -> None:
    patch = Patch(min(x, 40 - width), 5, np.ones((height, width), bool))
    taken = paste(patch, *SIZE)
    for kind in KINDS[1:]:
        drawn = drawn_error(kind, patch, 0, taken, 3, np.random.default_rng(seed))
        if drawn is None:
            continue
        moved, label = drawn
        x0, y0, x1, y1 = moved.box
        assert 0 <= x0 < x1 <= 40
        assert 0 <= y0 < y1 <= 40
        assert moved.pixels.any()
        same = np.array_equal(paste(moved, *SIZE), taken)
        assert (label != 0) == (kind == "category")
        assert same == (kind == "category")


def test_a_shift_keeps_the_shape() -> None:
    moved = shifted(SQUARE, SIZE, np.random.default_rng(0))
    assert moved is not None
    assert moved.area == 100
    overlap = (paste(moved, *SIZE) & paste(SQUARE, *SIZE)).sum()
    assert 0 < overlap < 100  # 0.3 to 0.7 of a side is off


def test_a_loose_outline_holds_the_label() -> None:
    wide = loosened(SQUARE, SIZE, np.random.default_rng(0))  # a full square has no box to fill
    assert wide is not None
    assert wide.area > 100
    assert (paste(wide, *SIZE) & paste(SQUARE, *SIZE)).sum() == 100


def test_a_mask_on_nothing_touches_no_label_or_is_none() -> None:
    generator = np.random.default_rng(0)
    taken = paste(SQUARE, *SIZE)
    moved = on_nothing(SQUARE, taken, generator, SIZE)
    assert moved is not None
    assert not (paste(moved, *SIZE) & taken).any()
    assert on_nothing(SQUARE, np.ones(SIZE, bool), generator, SIZE) is None
    assert on_nothing(SQUARE, np.zeros((5, 40), bool), generator, (5, 40)) is None  # too high


def test_one_category_has_no_other() -> None:
    generator = np.random.default_rng(0)
    assert other_category(0, 1, generator) is None
    assert {other_category(1, 3, generator) for _ in range(50)} == {0, 2}
