"""What was chosen for a labeller on photos that nothing learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Finder = Literal["sam", "detector", "anomaly"]  # beside the segmenter, which all labels need


@dataclass(frozen=True)
class Refinement:
    """Where SAM's mask replaces the segmenter's. overall: for categories with few masks. gain: the
    mean IoU that SAM adds; gains: by category."""

    overall: bool
    by_category: dict[str, bool]
    gain: float
    gains: dict[str, float]

    def of(self, category: str) -> bool:
        """Whether SAM's mask is the better one for this category."""
        return self.by_category.get(category, self.overall)


@dataclass(frozen=True)
class Gain:
    """What a finder adds to the labels. label_iou: to their label IoU. iou_error: taken off the
    mean error of their expected IoU."""

    label_iou: float
    iou_error: float


@dataclass(frozen=True)
class NamingGain:
    """The share of the candidates on defects that have the defect's category: by the finders, and
    by the naming, out of fold. used: whether the naming gains."""

    by_finders: float
    by_naming: float
    used: bool
