from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics.unusual_images import deviations


def names(count: int) -> list[str]:
    return [f"{number}" for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 9])
def test_few_images_tell_nothing(count: int) -> None:
    assert deviations(np.ones((count, 3), np.float32), names(count)).tolist() == [0] * count


def test_images_that_are_all_equal_are_not_unusual() -> None:
    assert not deviations(np.ones((20, 3), np.float32), names(20)).any()


def test_the_odd_one_out_is_first() -> None:
    embeddings = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    embeddings[17] += 20
    far = deviations(embeddings, names(300))
    assert far.argmax() == 17
    assert far[17] > 5
    assert np.median(far) == pytest.approx(0, abs=1e-6)


def test_images_of_one_object_do_not_vouch_for_each_other() -> None:
    embeddings = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    embeddings[:5] += 20
    alone = deviations(embeddings, names(100))
    together = deviations(embeddings, ["one"] * 5 + names(95))
    assert together[:5].min() > 5 > alone[:5].max()
