"""The labels that a detector finds on new images, with what calibrate knows of such labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.schema import SegmentConfig
from pipeline.errors import ConfigError
from pipeline.metrics.operating_points import (
    MeanInterval,
    OperatingPoint,
    Wish,
    operating_point,
    wish_of,
)
from pipeline.runtime.progress import say
from pipeline.types import Detections, Masks

if TYPE_CHECKING:  # these need torch, which a mistake in the options does not wait for
    from pipeline.models.sam.calibration import Calibration
    from pipeline.models.sam.model import CalibratedSegmenter
    from pipeline.trust.card import Trust


@dataclass(frozen=True)
class TrustedLabels:
    """Labels at one operating point. missed: the fit of what they miss; None for too few images.
    max_boxes: most labels of an image."""

    trust: Trust
    point: OperatingPoint
    missed: Calibration | None
    max_boxes: int

    def kept(self, found: Detections) -> tuple[Detections, float | None]:
        """The detections at or above the confidence, and the probability that they miss a defect.
        found: all detections of an image."""
        from pipeline.trust.card import missed_probability

        scores = _scores(found)
        order = np.argsort(-scores, kind="stable")
        kept = found.select(order[scores[order] >= self.point.confidence][: self.max_boxes])
        if self.missed is None:
            return kept, None
        listed = scores.astype(float).tolist()
        return kept, missed_probability(self.missed, listed, self.point.confidence)

    def add_quality(self, masks: Masks, kept: Detections, categories: Sequence[str]) -> Masks:
        """See `Trust.add_quality`."""
        return self.trust.add_quality(masks, kept, categories)


def trusted_labels(
    trust: Trust, confidence: float | None, wish: Wish | None, max_boxes: int
) -> TrustedLabels:
    """Labels at a confidence, by default the detector's own, or at the one that a wish leads to;
    says which, and what it reaches."""
    own = trust.confidence if confidence is None else confidence
    point = operating_point(trust.outcomes, own, wish)
    say(_text(point, wish))
    return TrustedLabels(trust, point, trust.missed(point.confidence), max_boxes)


def refuse_without_trust(config: SegmentConfig, detector: Path | None, trust: Path | None) -> None:
    """Raise ConfigError for a trust without a detector or with other views, and for a wish without
    a trust."""
    if trust and detector is None:
        raise ConfigError("--trust is of labels that a detector finds; add --detector")
    if trust and config.views.model_dump(exclude_none=True):
        raise ConfigError("--trust is of SAM's own views; leave out the options of views")
    if trust is None and (wish := _wish(config)):
        raise ConfigError(f"{wish.option} needs --trust, the folder of pipeline calibrate")


def _wish(config: SegmentConfig) -> Wish | None:
    return wish_of(config.recall, config.false_alarms, config.costs)


def load_labels(
    config: SegmentConfig, detector: Path, trust: Path, segmenter: CalibratedSegmenter
) -> TrustedLabels:
    """What is known of the labels of this detector and this SAM, at the wanted operating point."""
    from pipeline.trust.card import detector_sha256, read_trust, sam_sha256

    known = read_trust(trust, detector_sha256(detector), sam_sha256(segmenter.weights))
    return trusted_labels(known, config.confidence, _wish(config), config.max_boxes)


def without_calibration(
    segmenter: CalibratedSegmenter, labels: TrustedLabels | None = None
) -> CalibratedSegmenter:
    """A segmenter of found boxes without its calibration, which holds on true boxes alone; says so
    where nothing is known of the labels."""
    if segmenter.calibration and labels is None:
        say(
            "masks of found boxes have no expected IoU: `pipeline calibrate` measures it, and "
            "`pipeline segment --trust` uses it"
        )
    return replace(segmenter, calibration=None)


def _text(point: OperatingPoint, wish: Wish | None) -> str:
    recall, false = point.reached.recall, point.reached.false_alarms
    finds = f"finds {_shown(recall)} of the defects" if recall else "was measured without a defect"
    text = f"confidence {point.confidence:.4g} {finds}, with {_shown(false)} false labels an image"
    if wish is None:
        return text
    if point.is_met:
        return f"{wish.option}: {text}"
    return f"{wish.option} cannot be reached; the nearest: {text}"


def _shown(interval: MeanInterval) -> str:
    return "{:.3g} (95 %: {:.3g} to {:.3g})".format(*interval)


def _scores(found: Detections) -> np.ndarray:
    return np.ones(len(found), np.float32) if found.scores is None else found.scores
