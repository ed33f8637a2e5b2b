"""Categories that follow from all that is on a photo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from pipeline.errors import WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.proposals import card
from pipeline.proposals.candidates import Candidate
from pipeline.proposals.naming import NAMED, context, fit_naming, name_evidence, name_out_of_fold
from pipeline.trust.regression import fit_probability
from pipeline.types import Detections, Rle

SIZE = (20, 30)
SCRATCH, SPOT, TOGETHER = range(3)


def block(x: int) -> Rle:
    return mask_geometry.from_box(as_boxes([[x, 2, x + 8, 12]])[0], *SIZE)


def candidate(x: int, label: int, likely: float = 3.0) -> Candidate:
    shares = np.full(3, 0.1)
    shares[label] = 0.8
    return Candidate(block(x), None, shares, {"map_mean": likely})


def photos() -> tuple[list[list[Candidate]], list[Detections], list[str]]:
    """12 photos of one scratch or one spot, which finders name right, and 12 of one of each, which
    together are the third category: the finders call them scratch and spot."""
    rows, truths = [], []
    for number in range(12):
        label = number % 2
        rows.append([candidate(2, label)])
        truths.append(Detections.from_masks([block(2)], label))
        rows.append([candidate(2, SCRATCH), candidate(18, SPOT)])
        truths.append(Detections.from_masks([block(2), block(18)], TOGETHER))
    return rows, truths, [f"g{number}" for number in range(len(rows))]


def test_no_photo_and_too_few_candidates_change_nothing() -> None:
    assert name_out_of_fold([], [], []) == ([], None, None)
    rows, truths, groups = photos()
    named, gain, naming = name_out_of_fold(rows[:4], truths[:4], groups[:4])
    assert (named, gain, naming) == (rows[:4], None, None)


def test_defects_that_come_together_have_the_category_of_that() -> None:
    """Of 36 candidates the finders name the 12 right that are alone; with the naming all are."""
    rows, truths, groups = photos()
    named, gain, naming = name_out_of_fold(rows, truths, groups)
    assert gain is not None and naming is not None
    assert (gain.by_finders, gain.by_naming, gain.used) == (round(12 / 36, 4), 1.0, True)
    assert [row.label for row in named[1]] == [TOGETHER, TOGETHER]
    new = naming.named([candidate(2, SPOT)])
    assert new[0].label == SPOT
    assert new[0].shares.sum() == pytest.approx(1)
    assert NAMED in new[0].figures
    assert naming.named([]) == []


def test_another_candidate_counts_as_much_as_it_is_likely_a_defect() -> None:
    """The expected number of others: the sigmoid of 0 is 1/2; log(1 + 1/2) = 0.405."""
    alone, doubtful = context([candidate(2, 0)]), context([candidate(2, 0), candidate(18, 1, 0.0)])
    assert alone[0].tolist() == pytest.approx([0.8, 0.1, 0.1, 0, 0, 0, 0, 0, 0])
    assert doubtful[0, 3:6].tolist() == pytest.approx([0.05, 0.4, 0.05])
    assert doubtful[0, 6:].tolist() == pytest.approx([np.log(1.5), 1, 0])


def test_without_a_gain_the_finders_categories_stay() -> None:
    rows, truths, groups = photos()
    alone = [number for number, own in enumerate(rows) if len(own) == 1] * 2
    same, true = [rows[number] for number in alone], [truths[number] for number in alone]
    named, gain, naming = name_out_of_fold(same, true, groups)
    assert naming is None
    assert named == same
    assert gain is not None and not gain.used


def test_the_fit_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    figures, labels = generator.normal(size=(80, 11)), generator.integers(0, 3, 80)
    figures[labels == 2, 4] += 1.5
    naming = fit_naming(figures, labels, 4)
    rows = (figures - naming.centre) / naming.spread
    own = softmax(naming.weights[:, 0] + rows @ naming.weights[:, 1:].T, axis=1)
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=10_000).fit(rows, labels)
    assert np.abs(own[:, :3] - oracle.predict_proba(rows)).max() < 1e-3
    assert own[:, 3].max() < 1e-6  # a category that no candidate had


def test_a_naming_is_read_as_it_was_written_and_not_for_other_categories() -> None:
    naming = fit_naming(np.eye(9)[:6], np.array([0, 1, 2, 0, 1, 2]), 3)
    written = json.loads(json.dumps(card._naming_card(naming)))
    read = card._NamingCard.model_validate(written)
    again = card._naming(read, 3, Path("card.json"))
    np.testing.assert_allclose(again.weights, naming.weights, atol=1e-6)
    with pytest.raises(WeightsError, match="other categories"):
        card._naming(read, 4, Path("card.json"))
    written["centre"].pop()
    with pytest.raises(ValueError, match="not of one number"):
        card._NamingCard.model_validate(written)


def test_whether_a_name_is_right_is_learned_from_the_namings_own_word() -> None:
    """Its fit takes two of all figures, and no category: it answers alike for each."""
    plain: dict[str, np.ndarray] = {
        name: np.arange(12, dtype=np.float32) for name in ("map_mean", "area")
    }
    names = ["a", "b"] * 6
    assert name_evidence(plain, names) == (plain, names)
    table = {**plain, NAMED: np.array([0, 1] * 6, np.float32)}
    own, nobody = name_evidence(table, names)
    fit = fit_probability(own, [0, 1] * 6, nobody)
    assert (fit.names, fit.categories) == (("map_mean", NAMED), ())
    right = fit.expected_iou(table, names)
    assert right[0] < 0.4
    assert right[1] > 0.6
    assert (fit.expected_iou(table, ["b"] * 12) == right).all()
