"""SAM as a `Segmenter`: boxes to masks, each with figures that say how far to trust it.

An object is seen on the whole image, as segment-anything's `SamPredictor` does, or closely: the
part around its box at several zooms and in several positions, over whose answers the mean is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.crops import Crop
from pipeline.geometry.patches import Patch
from pipeline.models.sam.calibration import measures
from pipeline.models.sam.decoders import PromptDecoder
from pipeline.models.sam.encoders import STRIDE, ImageEncoder
from pipeline.models.sam.merge_views import (
    Logits,
    MaskLogits,
    PriorLogits,
    interior_point,
    limited,
    masks_of,
    merge_views,
    patch_of,
)
from pipeline.models.sam.network import Prompts
from pipeline.models.sam.patch_prior import PatchPrior
from pipeline.models.sam.views import (
    View,
    ViewOptions,
    crop_views,
    jittered_boxes,
    padded,
    peak_in_box,
    prompt_box,
    prompt_point,
    resize_longest,
)
from pipeline.runtime.malloc import keep_freed_memory
from pipeline.types import Image, Masks

_OBJECTS = 16  # seen and decoded together
_ABOUT = 0.25  # of a box's sides, about it
_MANY_LOGITS = 32.0  # what segment-anything clips its own mask prompts to in training


class Prompt(NamedTuple):
    """What SAM is asked: a box (4,) of one look's picture, with a point (2,) of the image, and
    logits (S, S) of a first mask."""

    look: View
    box: NDArray[np.float32]
    point: NDArray[np.float32] | None = None
    first: Logits | None = None


class Answer(NamedTuple):
    """A mask's logits (S, S) in the look's own position, and the IoU that SAM expects of it."""

    logits: Logits
    predicted_iou: float


class SamSegmenter:
    """A `Segmenter`. Two calls for one image encode it twice unless the encoder has a cache."""

    def __init__(
        self,
        decoder: PromptDecoder,
        whole: ImageEncoder,
        close: ImageEncoder,
        views: ViewOptions | None = None,
        memory: PatchPrior | None = None,
    ) -> None:
        """`whole` encodes images, `close` windows. `memory` adds to SAM's logits what known masks
        say of a pixel. The segmenter's own `key` names all that an answer depends on but image and
        prompts; it may change as an encoder's."""
        keep_freed_memory()
        self.decoder = decoder
        self.whole, self.close = whole, close
        self.views = views or ViewOptions()
        self.memory = memory

    @property
    def key(self) -> str:
        """What an answer was made by. An encoder that the looks never ask has no part in it, for
        its key may cost an export."""
        near = self.views.crop_below  # no box is longer than its image
        whole = self.whole.key if near <= 1 else None
        close = self.close.key if near > 0 else None
        remembered = self.memory.key if self.memory else None
        return f"{self.decoder.key} {whole} {close} {self.views} {remembered}"

    def segment(self, image: Image, boxes: Boxes, heatmap: Logits | None = None) -> Masks:
        """One mask per box, in order, with the figures of `quality.measures`, each in [0, 1].

        heatmap: (H, W) of any range; its highest place inside a box is told SAM as a point. A box
        without pixels inside the image, or whose mask comes out empty, is marked failed, has an
        empty mask, and 0 for every figure.
        """
        return masks_of(image, boxes, self.views.pad, lambda b: self._cut_out(image, b, heatmap))

    def _cut_out(
        self, image: Image, boxes: Boxes, heatmap: Logits | None
    ) -> Iterator[tuple[Patch, dict[str, float]]]:
        """Each object's mask and figures."""
        whole: list[View] = []
        for start in range(0, len(boxes), _OBJECTS):
            some = boxes[start : start + _OBJECTS]
            asked = []
            for box, views in zip(some, self._looks(image, some, whole), strict=True):
                point = None if heatmap is None else peak_in_box(heatmap, box)
                asked.append([Prompt(look, box, point) for look in views])
            yield from self._objects(image, asked)

    def _looks(self, image: Image, boxes: Boxes, whole: list[View]) -> list[list[View]]:
        """The looks at each object; the one at the whole image is made once, kept in `whole`."""
        longest = max(image.shape[:2])
        near = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) < self.views.crop_below * longest
        if not near.all() and not whole:
            window = Crop(0.0, 0.0, float(longest))
            whole.append(
                View(window, 0, self.whole.encode([resize_longest(image, self.whole.side)])[0])
            )
        close = crop_views(image, boxes[near], self.close, self.views.crop_scales, self.views.tta)
        closely = iter(close)
        return [next(closely) if is_near else whole for is_near in near]

    def _objects(
        self, image: Image, asked: Sequence[Sequence[Prompt]]
    ) -> Iterator[tuple[Patch, dict[str, float]]]:
        """The mask and figures of objects, each asked of by its looks."""
        size = (image.shape[0], image.shape[1])
        known = [self._remembered(image, questions[0].box) for questions in asked]

        def cuts(answered: Sequence[Sequence[Answer]]) -> list[MaskLogits]:
            views = ([question.look for question in questions] for questions in asked)
            each = zip(known, views, answered, strict=True)
            return [told.told(_agreed(some, answers, size)) for told, some, answers in each]

        answered = self._answers(asked)
        for _ in range(1, self.views.rounds):
            points = [interior_point(cut) for cut in cuts(answered)] if self.views.point else None
            asked = [
                [
                    q._replace(first=a.logits, point=points[n] if points else q.point)
                    for q, a in zip(questions, answers, strict=True)
                ]
                for n, (questions, answers) in enumerate(zip(asked, answered, strict=True))
            ]
            answered = self._answers(asked)
        found = cuts(answered)
        beside = self._beside([questions[0] for questions in asked])
        for cut, questions, told, others in zip(found, asked, known, beside, strict=True):
            look, box = questions[0].look, questions[0].box
            margin = self.views.margin
            limits = None if margin is None else padded(as_boxes(box), margin)[0]
            patch = patch_of(cut, limits)
            if not patch.pixels.size:
                yield patch, {}
                continue
            single = [limited(other, limits) for other in cut.single]
            tried = [patch_of(told.told(_agreed([look], [a], size)), limits) for a in others]
            yield patch, measures(patch, cut, box, size, single, tried)

    def _remembered(self, image: Image, box: NDArray[np.float32]) -> PriorLogits:
        """What known masks say of the pixels about a box."""
        if self.memory is None:
            return PriorLogits(0, 0, np.zeros((0, 0), np.float32))
        wide = padded(as_boxes(box), _ABOUT)[0]
        x0, y0 = np.maximum(np.floor(wide[:2]), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(wide[2:]), image.shape[1::-1]).astype(int)
        return PriorLogits(int(x0), int(y0), self.memory.ratio(image, x0, y0, x1, y1))

    def _beside(self, asked: Sequence[Prompt]) -> list[list[Answer]]:
        """What each look makes of boxes a little beside its own."""
        box_jitters = self.views.box_jitters
        return self._answers(
            [[Prompt(q.look, box) for box in jittered_boxes(q.box, box_jitters)] for q in asked]
        )

    def _answers(self, asked: Sequence[Sequence[Prompt]]) -> list[list[Answer]]:
        """SAM's answer to each question of each object."""
        flat = [question for questions in asked for question in questions]
        answers = iter([answer for some in self._alike(flat) for answer in self._decoded(some)])
        return [[next(answers) for _ in questions] for questions in asked]

    def _alike(self, asked: Sequence[Prompt]) -> Iterator[list[Prompt]]:
        """The questions in order, in parts that can be decoded together."""

        def kind(question: Prompt) -> tuple[int, bool, bool]:
            cells = question.look.embedding.shape[1]
            return cells, question.point is None, question.first is None

        for (cells, *_), group in groupby(asked, key=kind):
            some = list(group)
            count = max(1, self.decoder.cells // cells**2)
            yield from (some[at : at + count] for at in range(0, len(some), count))

    def _decoded(self, asked: Sequence[Prompt]) -> list[Answer]:
        four, iou = self.decoder.decode([q.look.embedding for q in asked], _prompts(asked))
        offered = slice(1, None) if self.views.multimask else slice(0, 1)
        best = iou[:, offered].argmax(axis=1)
        rows = np.arange(len(asked))
        chosen, rated = four[:, offered][rows, best], iou[:, offered][rows, best]
        return [Answer(logits, float(value)) for logits, value in zip(chosen, rated, strict=True)]


def _agreed(views: Sequence[View], answers: Sequence[Answer], size: tuple[int, int]) -> MaskLogits:
    logits = np.stack([answer.logits for answer in answers])
    rated = np.array([answer.predicted_iou for answer in answers], np.float32)
    return merge_views(views, logits, rated, size)


def _prompts(asked: Sequence[Prompt]) -> Prompts:
    """Each look's box, its point and first mask where there are, in the pixels of its picture."""
    side = asked[0].look.embedding.shape[1] * STRIDE
    boxes = np.concatenate([prompt_box(q.box, q.look, side) for q in asked])
    points = [prompt_point(q.point, q.look, side) for q in asked if q.point is not None]
    first = [
        np.clip(q.first, -_MANY_LOGITS, _MANY_LOGITS)[None] for q in asked if q.first is not None
    ]
    return Prompts(torch.from_numpy(boxes), _stacked(points), _stacked(first))


def _stacked(rows: Sequence[NDArray[np.float32]]) -> torch.Tensor | None:
    return torch.from_numpy(np.stack(rows)) if rows else None
