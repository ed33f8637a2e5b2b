"""A SAM that costs nothing, and says which one it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.geometry.patches import Patch
from pipeline.review.assistant import Click, Proposal
from pipeline.types import Image


class NamedSam:
    """A SAM whose masks have as many pixels as its name has letters."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prepared: list[int] = []

    def prepare(self, key: int, image: Image) -> None:
        self.prepared.append(key)

    def propose(
        self, key: int, image: Image, clicks: Sequence[Click], box: object, before: Patch | None,
        category: str,
    ) -> Proposal:  # fmt: skip
        return Proposal(Patch(0, 0, np.ones((1, len(self.name)), bool)), 0.5)
