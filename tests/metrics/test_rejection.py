from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.rejection import either, rejections


def test_without_an_image_nothing_is_rejected() -> None:
    assert rejections(np.zeros(0), np.zeros(0, np.int64)) == ([0.0], [0.0])


def test_images_are_rejected_from_the_highest_score_on() -> None:
    """Scores 0.9 (good), 0.8 (two defects), 0.5 (good), 0.1 (one defect)."""
    scores, defects = np.array([0.9, 0.8, 0.5, 0.1]), np.array([0, 2, 0, 1])
    rejected, missed = rejections(scores, defects)
    assert rejected == [0, 0.5, 0.5, 1, 1]
    assert missed == pytest.approx([1, 1, 1 / 3, 1 / 3, 0])


def test_either_of_two_models_rejects_what_is_unlike_good_images_for_it() -> None:
    """Each model sees one of the two defects; together they see both, and reject no good image."""
    defects = np.array([0, 0, 1, 1])
    first, second = np.array([0.3, 0.2, 0.9, 0.1]), np.array([10.0, 20.0, 5.0, 30.0])
    rejected, missed = rejections(either([first, second], defects), defects)
    assert min(share for good, share in zip(rejected, missed, strict=True) if good == 0) == 0
    for alone in (first, second):
        good, share = rejections(alone, defects)
        assert min(s for g, s in zip(good, share, strict=True) if g == 0) == 0.5
