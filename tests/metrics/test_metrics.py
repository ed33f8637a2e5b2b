from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.metrics.classification import classification
from pipeline.metrics.detection import average_precision, best_confidence
from pipeline.metrics.intervals import bootstrap_mean, wilson
from pipeline.metrics.masks import match, mean_by, size_bin
from pipeline.types import Dataset, Detections, ImageRecord


@pytest.mark.parametrize(
    ("right", "total", "expected"),
    [
        (0, 0, (0.0, 1.0)),
        (0, 10, (0.0, 0.2775)),  # Wilson's interval, e.g. Brown, Cai and DasGupta 2001
        (13, 16, (0.5699, 0.9341)),  # the study's best classifier
        (10, 10, (0.7225, 1.0)),
    ],
)
def test_wilsons_interval(right: int, total: int, expected: tuple[float, float]) -> None:
    assert wilson(right, total) == pytest.approx(expected, abs=2e-4)


def test_wilsons_interval_is_its_formula() -> None:
    z, p, n = 1.959964, 13 / 16, 16
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson(13, 16) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_the_bootstrap_of_equal_values_is_that_value_and_of_none_is_nothing() -> None:
    assert bootstrap_mean([0.4] * 9) == pytest.approx((0.4, 0.4))
    assert all(np.isnan(bootstrap_mean([])))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_classification_agrees_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    from sklearn import metrics

    truth, predicted = np.array(rows, dtype=np.int64).T
    ours = classification(truth, predicted, 4)
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert ours.macro_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    theirs = metrics.confusion_matrix(truth, predicted, labels=range(4))
    assert (ours.confusion == theirs).all()


def test_classification_of_nothing_has_no_figures() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert np.isnan(classification(none, none, 2).accuracy)


@pytest.mark.parametrize(
    ("found", "truth", "expected"),
    [
        ([], [], []),
        ([[0, 0, 4, 4]], [], []),
        ([[0, 0, 4, 4], [9, 9, 12, 12]], [[9, 9, 12, 12]], [(1, 0)]),
        ([[0, 0, 4, 4]], [[0, 0, 4, 9]], []),  # IoU 16 / 36 is below a half
        # greedily, row 0 would take column 0 (IoU 1) either way; crosswise pairs share less
        ([[0, 0, 4, 4], [0, 0, 4, 5]], [[0, 0, 4, 4], [0, 0, 4, 5]], [(0, 0), (1, 1)]),
    ],
)
def test_boxes_are_matched_one_to_one(
    found: list[list[float]], truth: list[list[float]], expected: list[tuple[int, int]]
) -> None:
    assert match(as_boxes(found), as_boxes(truth)) == expected


@pytest.mark.parametrize(
    ("area", "name"), [(1, "small"), (1023, "small"), (1024, "medium"), (9216, "large")]
)
def test_size_bins_are_cocos(area: int, name: str) -> None:
    assert size_bin(area) == name


def test_means_are_by_key() -> None:
    assert mean_by([], []) == {}
    assert mean_by(["b", "a", "b"], [1, 5, 2]) == {"a": (5.0, 1), "b": (1.5, 2)}


def square(x: int, y: int, side: int = 40) -> mask_geometry.Rle:
    mask = np.zeros((100, 100), bool)
    mask[y : y + side, x : x + side] = True
    return mask_geometry.encode(mask)


def truth_of(*masks: mask_geometry.Rle) -> Dataset:
    record = ImageRecord(1, Path("a"), "a", 100, 100)
    return Dataset(("crack", "stain"), (record,), {1: Detections.from_masks(masks, 0)})


def scored(objects: Detections, *scores: float) -> Detections:
    return Detections(objects.boxes, objects.labels, np.array(scores, np.float32), objects.masks)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ap_of_nothing_is_0_and_of_the_truth_is_1(kind: str) -> None:
    truth = truth_of(square(5, 5), square(55, 55))
    nothing = average_precision(truth, {}, kind)  # type: ignore[arg-type]
    assert (nothing.ap, nothing.ap50) == (0, 0)
    perfect = {1: scored(truth.objects[1], 0.9, 0.8)}
    found = average_precision(truth, perfect, kind)  # type: ignore[arg-type]
    assert (found.ap, found.ap50) == pytest.approx((1, 1))
    assert np.isnan(found.per_category["stain"][0])  # no stain in the truth: no figure


def test_ap50_of_one_false_alarm_above_one_hit_is_a_half() -> None:
    truth = truth_of(square(5, 5))
    predicted = truth_of(square(55, 55), square(5, 5)).objects[1]
    found = average_precision(truth, {1: scored(predicted, 0.9, 0.8)}, "bbox")
    assert found.ap50 == pytest.approx(0.5)  # precision 1/2 at every recall


def test_ap_is_that_of_cocoeval_on_the_same_files(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from pipeline.formats.coco import write_coco, write_coco_results

    generator = np.random.default_rng(3)
    records = tuple(ImageRecord(i, Path("a"), f"{i}", 100, 100) for i in range(1, 9))
    truth, predicted = {}, {}
    for record in records:
        corners = generator.integers(0, 60, (3, 2))
        objects = Detections.from_masks([square(*c) for c in corners], 0)
        labels = generator.integers(0, 2, 3)
        truth[record.id] = Detections(objects.boxes, labels, masks=objects.masks)
        moved = [square(*(c + generator.integers(0, 9, 2))) for c in corners]
        shifted = Detections.from_masks(moved, 0)
        scores = generator.random(3).astype(np.float32).round(3)
        predicted[record.id] = Detections(shifted.boxes, labels, scores, shifted.masks)
    names = ("crack", "stain")
    write_coco(tmp_path / "t.json", Dataset(names, records, truth))
    write_coco_results(tmp_path / "r.json", Dataset(names, records, predicted))
    reference = COCO(str(tmp_path / "t.json"))
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(reference, reference.loadRes(str(tmp_path / "r.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        ours = average_precision(Dataset(names, records, truth), predicted, kind)
        assert (ours.ap, ours.ap50) == pytest.approx(tuple(evaluation.stats[:2]), abs=1e-9)


def test_the_confidence_kept_is_the_lowest_with_f1_within_a_tenth_of_its_peak() -> None:
    truth = truth_of(square(5, 5), square(55, 55))
    predicted = truth_of(square(5, 5), square(55, 55), square(55, 5), square(5, 55)).objects[1]
    assert best_confidence(truth, {}) is None
    # kept 1: F1 2/3; kept 2: 1; kept 3: 4/5, below 0.9
    assert best_confidence(truth, {1: scored(predicted, 0.9, 0.4, 0.3, 0.2)}) == pytest.approx(0.4)
    # a false alarm between the two: kept 1: 2/3; 2: 1/2; 3: 4/5; 4: 2/3, below 0.72
    assert best_confidence(truth, {1: scored(predicted, 0.9, 0.3, 0.4, 0.2)}) == pytest.approx(0.3)


def test_the_same_true_box_is_not_found_twice() -> None:
    truth = truth_of(square(5, 5))
    predicted = truth_of(square(5, 5), square(6, 5)).objects[1]
    assert best_confidence(truth, {1: scored(predicted, 0.8, 0.9)}) == pytest.approx(0.9)


def test_values_of_one_group_are_drawn_together() -> None:
    """Two groups, with values all 0 and all 1: the mean of a sample is 0, 1/2 or 1."""
    values, groups = [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50
    assert bootstrap_mean(values, groups=groups) == (0.0, 1.0)
    low, high = bootstrap_mean(values)
    assert 0.35 < low < high < 0.65
    alone = bootstrap_mean(values, groups=[str(number) for number in range(100)])
    assert alone == pytest.approx((low, high), abs=0.03)


def test_rank_correlation_is_that_of_the_order_alone() -> None:
    from scipy.stats import spearmanr

    from pipeline.metrics.intervals import rank_correlation

    assert rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1.0)
    with_ties = [1, 1, 2, 5, 4], [3, 1, 1, 9, 2]
    assert rank_correlation(*with_ties) == pytest.approx(spearmanr(*with_ties).statistic)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation([1, 2], [1, 2]))
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


@pytest.mark.slow
def test_the_interval_of_a_rank_correlation_draws_whole_photos() -> None:
    from pipeline.metrics.intervals import bootstrap_rank_correlation

    assert np.isnan(bootstrap_rank_correlation([], [], [])).all()
    one = bootstrap_rank_correlation([1, 2, 3], [10, 30, 20], ["a"] * 3)
    assert one == pytest.approx((0.5, 0.5))  # every sample is the one photo
    generator = np.random.default_rng(0)
    first = generator.normal(size=60)
    second = first + generator.normal(size=60)
    each = [str(n) for n in range(60)]
    low, high = bootstrap_rank_correlation(first.tolist(), second.tolist(), each)
    assert 0.4 < low < high < 0.9  # rho is near 0.7
    twice = np.tile(first, 2).tolist(), np.tile(second, 2).tolist()
    again = bootstrap_rank_correlation(*twice, each + each)  # copies in the same group add nothing
    assert again == pytest.approx((low, high), abs=0.03)
