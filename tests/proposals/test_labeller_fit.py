"""What candidates teach, on photos whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.proposals.candidates import Candidate
from pipeline.proposals.choices import Finder, Refinement
from pipeline.proposals.fit import LabelledImage, as_labels, choose_refinement, fit_labeller
from pipeline.types import Detections, Rle

SIZE = (20, 30)
NOWHERE = Refinement(False, {}, 0.0, {})


def block(x0: float, y0: float, x1: float, y1: float) -> Rle:
    return mask_geometry.from_box(as_boxes([[x0, y0, x1, y1]])[0], *SIZE)


def candidate(
    mask: Rle | None, sam: Rle | None = None, share: float = 0.9, **figures: float
) -> Candidate:
    return Candidate(
        mask, sam, np.array([share, 1 - share]), {"map_mean": 0.0, "area": 0.0, **figures}
    )


def photo(number: int, *rows: Candidate, defects: tuple[Rle, ...]) -> LabelledImage:
    truth = Detections.from_masks(defects, 0) if defects else Detections.none()
    return LabelledImage(f"g{number}", truth, rows)


TRUE = block(2, 2, 12, 12)  # 100 pixels
LOOSE = block(2, 2, 12, 17)  # 150 pixels, IoU 100/150
FALSE = block(20, 2, 25, 7)


def photos(sam: Rle | None = None) -> list[LabelledImage]:
    """15 photos with one defect, found at a high figure, and a false candidate at a low one."""
    return [
        photo(
            n,
            candidate(LOOSE, sam, map_mean=2.0 + 0.1 * (n % 3)),
            candidate(FALSE, sam and FALSE, map_mean=-2.0 + 0.1 * (n % 2)),
            defects=(TRUE,),
        )
        for n in range(15)
    ]


def test_too_few_candidates_teach_nothing() -> None:
    assert fit_labeller([], ("a", "b"), []) is None
    assert fit_labeller(photos()[:9], ("a", "b"), []) is None  # 18 candidates on 9 photos


def test_probabilities_tell_defects_from_false_candidates() -> None:
    fit = fit_labeller(photos(), ("a", "b"), [])
    assert fit is not None
    assert fit.true_iou[:2].tolist() == pytest.approx([2 / 3, 0])
    assert fit.tested_probability[0::2].min() > 0.7
    assert fit.tested_probability[1::2].max() < 0.3
    assert np.abs(fit.tested_iou - fit.true_iou).max() < 0.2
    assert fit.quality.false_labels == 0
    assert fit.quality.found == 15
    assert 0.4 < fit.confidence < 0.6  # every limit between both is as good: the middle one
    assert fit.outcomes[0].found_at[0] > 0.7 > fit.outcomes[0].false_at[0]


def test_sams_mask_is_used_where_it_is_the_better_one() -> None:
    # SAM: the true mask, IoU 1, instead of 2/3.
    gain = choose_refinement(photos(TRUE), ("a", "b"))
    assert gain.gain == pytest.approx(1 / 3, abs=1e-4)
    assert gain.of("a")
    assert gain.of("b")  # no mask of it: as overall
    worse = choose_refinement(photos(block(2, 2, 12, 4)), ("a", "b"))  # IoU 20/100
    assert not worse.of("a")
    fit = fit_labeller(photos(TRUE), ("a", "b"), ["sam"])
    assert fit is not None
    assert fit.finders == ("sam",)
    assert fit.gains["sam"].label_iou == pytest.approx(1 / 3, abs=1e-3)
    assert fit.quality.label_iou == 1


def test_a_finder_that_adds_nothing_is_left_out() -> None:
    own: list[Finder] = ["anomaly"]
    same = [
        LabelledImage(
            one.group,
            one.truth,
            tuple(
                Candidate(row.region_mask, None, row.shares, {**row.figures, "anomaly": 1.0})
                for row in one.candidates
            ),
        )
        for one in photos()
    ]
    fit = fit_labeller(same, ("a", "b"), own)
    assert fit is not None
    assert fit.finders == ()
    assert "anomaly" not in fit.probability.names


def test_one_defect_has_one_label() -> None:
    rows = [candidate(TRUE), candidate(LOOSE), candidate(FALSE)]
    labels, kept = as_labels(rows, np.array([0.6, 0.9, 0.2]), 0.1, NOWHERE, ("a", "b"))
    assert kept.tolist() == [1, 2]  # the two share the whole smaller one: the likelier stays
    assert labels.scores is not None
    assert labels.scores.tolist() == pytest.approx([0.9, 0.2])
    assert labels.finders == ("segmenter", "segmenter")
    nothing, none = as_labels(rows, np.array([0.6, 0.9, 0.2]), 0.95, NOWHERE, ("a", "b"))
    assert (len(nothing), len(none)) == (0, 0)
