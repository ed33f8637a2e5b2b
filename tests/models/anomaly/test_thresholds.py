from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.models.anomaly.detector import regions
from pipeline.models.anomaly.thresholds import GoodImage, Thresholds, read_thresholds


def test_regions_start_at_pixel_high_and_end_at_pixel_low() -> None:
    """Two regions from 1 on; one reaches 3. Half way down from 3 to -2 is 0.5, below 1;
    half way down to 0 is 1.5, which the peak alone has."""
    heat = np.zeros((10, 12), np.float32)
    heat[1:3, 1:5] = 1
    heat[5:8, 6:9] = 1
    heat[6, 7] = 3
    boxes, peaks = regions(heat, Thresholds(2, pixel_high=2, pixel_low=1, pixel_median=-2))
    assert (boxes.tolist(), peaks.tolist()) == ([[6, 5, 9, 8]], [3])
    boxes, _ = regions(heat, Thresholds(2, pixel_high=2, pixel_low=1, pixel_median=0))
    assert boxes.tolist() == [[7, 6, 8, 7]]
    assert regions(heat, Thresholds(2, pixel_high=4, pixel_low=1, pixel_median=0))[0].shape == (
        0,
        4,
    )


def test_thresholds_leave_the_share_of_false_positives() -> None:
    """Of 20 good images with scores 1 to 20, 5 % may be marked: the one with 20 alone."""
    values = range(1, 21)
    images = [
        GoodImage(score=value, pixel_max=value, pixel_q99=value, pixel_median=value)
        for value in values
    ]
    thresholds = Thresholds.of(images, 0.05)
    assert sum(value >= thresholds.image for value in values) == 1
    strict = Thresholds.of(images, 0.0)
    assert sum(value >= strict.pixel_high for value in values) == 0


def test_thresholds_are_read_as_they_were_written_and_those_of_0_7_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"thresholds\.json"):
        read_thresholds(tmp_path)
    old = {"score": 3.0, "seed": 2.0, "edge": 1.0, "usual": 0.5}
    (tmp_path / "limits.json").write_text(json.dumps(old))
    assert read_thresholds(tmp_path) == Thresholds(3.0, 2.0, 1.0, 0.5)
    written = Thresholds(4.0, 3.0, 2.0, 1.0)
    written.save(tmp_path)
    assert read_thresholds(tmp_path) == written
