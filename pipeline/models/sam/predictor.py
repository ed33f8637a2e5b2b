"""SAM as a `Segmenter`: boxes to masks, each with figures from which its IoU can be expected.

A view of an object is the whole image, as in segment-anything's `SamPredictor`, or a crop around
its box. Several crops, at several scales and rotated or mirrored, are merged by their mean logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.crops import Crop
from pipeline.geometry.patches import Patch
from pipeline.models.sam.calibration import measures
from pipeline.models.sam.decoders import PromptDecoder, RememberingDecoder
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

_OBJECTS_AT_ONCE = 16  # encoded and decoded together
_PRIOR_MARGIN = 0.25  # of a box's sides, around it
_MAX_LOGITS = 32.0  # to which segment-anything clips its mask prompts in training


class Prompt(NamedTuple):
    """A prompt on one view: a box (4,) and a point (2,) in pixels of the image, and the logits
    (S, S) of a first mask in the view's own position."""

    view: View
    box: NDArray[np.float32]
    point: NDArray[np.float32] | None = None
    mask: Logits | None = None


class Prediction(NamedTuple):
    """A mask's logits (S, S) in the view's own position, and the IoU that SAM predicts."""

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
        patch_prior: PatchPrior | None = None,
    ) -> None:
        """`whole` encodes whole images, `close` crops. `patch_prior` is added to SAM's logits."""
        keep_freed_memory()
        self.decoder = decoder
        self.whole, self.close = whole, close
        self.views = views or ViewOptions()
        self.patch_prior = patch_prior

    def with_prior(self, patch_prior: PatchPrior) -> SamSegmenter:
        """The same decoder, encoders and views with another patch prior."""
        return SamSegmenter(self.decoder, self.whole, self.close, self.views, patch_prior)

    def remembering(self) -> SamSegmenter:
        """The same with a decoder that remembers its last outputs. Those that `with_prior` makes of
        it share the memory."""
        decoder = RememberingDecoder(self.decoder)
        return SamSegmenter(decoder, self.whole, self.close, self.views, self.patch_prior)

    @property
    def key(self) -> str:
        """All that a mask depends on but image and prompts. An encoder that the views never use has
        no part in it, because its key may cost an export."""
        near = self.views.crop_below  # no box is longer than its image
        whole = self.whole.key if near <= 1 else None
        close = self.close.key if near > 0 else None
        prior = self.patch_prior.key if self.patch_prior else None
        return f"{self.decoder.key} {whole} {close} {self.views} {prior}"

    def segment(self, image: Image, boxes: Boxes, heatmap: Logits | None = None) -> Masks:
        """One mask per box, in order, with the figures of `calibration.measures`, each in [0, 1].

        heatmap: (H, W) of any range; its peak inside a box is a point prompt. A box
        without pixels inside the image, or whose mask comes out empty, is marked failed, has an
        empty mask, and 0 for every figure.
        """
        return masks_of(image, boxes, self.views.pad, lambda b: self._patches(image, b, heatmap))

    def _patches(
        self, image: Image, boxes: Boxes, heatmap: Logits | None
    ) -> Iterator[tuple[Patch, dict[str, float]]]:
        """Each object's mask and figures."""
        whole: list[View] = []
        for start in range(0, len(boxes), _OBJECTS_AT_ONCE):
            batch = boxes[start : start + _OBJECTS_AT_ONCE]
            prompts = []
            for box, views in zip(batch, self._views(image, batch, whole), strict=True):
                point = None if heatmap is None else peak_in_box(heatmap, box)
                prompts.append([Prompt(view, box, point) for view in views])
            yield from self._objects(image, prompts)

    def _views(self, image: Image, boxes: Boxes, whole: list[View]) -> list[list[View]]:
        """The views of each object. That of the whole image is encoded once and kept in `whole`."""
        longest = max(image.shape[:2])
        is_small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) < self.views.crop_below * longest
        if not is_small.all() and not whole:
            embedding = self.whole.encode([resize_longest(image, self.whole.side)])[0]
            whole.append(View(Crop(0.0, 0.0, float(longest)), 0, embedding))
        scales, positions = self.views.crop_scales, self.views.tta
        crops = iter(crop_views(image, boxes[is_small], self.close, scales, positions))
        return [next(crops) if small else whole for small in is_small]

    def _objects(
        self, image: Image, prompts: Sequence[Sequence[Prompt]]
    ) -> Iterator[tuple[Patch, dict[str, float]]]:
        """The mask and figures of objects, each prompted on its views."""
        size = (image.shape[0], image.shape[1])
        priors = [self._prior(image, own[0].box) for own in prompts]

        def merged(predictions: Sequence[Sequence[Prediction]]) -> list[MaskLogits]:
            views = ([prompt.view for prompt in own] for own in prompts)
            each = zip(priors, views, predictions, strict=True)
            return [prior.added_to(_merged(own, rows, size)) for prior, own, rows in each]

        predictions = self._predict(prompts)
        for _ in range(1, self.views.rounds):
            prompts = _with_masks(prompts, predictions, merged, self.views.point)
            predictions = self._predict(prompts)
        jittered = self._jittered([own[0] for own in prompts])
        each = zip(merged(predictions), prompts, priors, jittered, strict=True)
        for mask, own, prior, others in each:
            view, box = own[0].view, own[0].box
            margin = self.views.margin
            limits = None if margin is None else padded(as_boxes(box), margin)[0]
            patch = patch_of(mask, limits)
            if not patch.pixels.size:
                yield patch, {}
                continue
            single = [limited(other, limits) for other in mask.single]
            nearby = [patch_of(prior.added_to(_merged([view], [p], size)), limits) for p in others]
            yield patch, measures(patch, mask, box, size, single, nearby)

    def _prior(self, image: Image, box: NDArray[np.float32]) -> PriorLogits:
        """The patch prior of the pixels around a box."""
        if self.patch_prior is None:
            return PriorLogits(0, 0, np.zeros((0, 0), np.float32))
        wide = padded(as_boxes(box), _PRIOR_MARGIN)[0]
        x0, y0 = np.maximum(np.floor(wide[:2]), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(wide[2:]), image.shape[1::-1]).astype(int)
        return PriorLogits(int(x0), int(y0), self.patch_prior.ratio(image, x0, y0, x1, y1))

    def _jittered(self, prompts: Sequence[Prompt]) -> list[list[Prediction]]:
        """The predictions from jittered boxes beside each prompt's own."""
        count = self.views.box_jitters
        return self._predict(
            [[Prompt(p.view, box) for box in jittered_boxes(p.box, count)] for p in prompts]
        )

    def _predict(self, prompts: Sequence[Sequence[Prompt]]) -> list[list[Prediction]]:
        """SAM's prediction for each prompt of each object."""
        flat = [prompt for own in prompts for prompt in own]
        predictions = iter([p for batch in self._batches(flat) for p in self._decode(batch)])
        return [[next(predictions) for _ in own] for own in prompts]

    def _batches(self, prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
        """The prompts in order, in batches that can be decoded together."""

        def shape(prompt: Prompt) -> tuple[int, bool, bool]:
            return prompt.view.embedding.shape[1], prompt.point is None, prompt.mask is None

        for (cells, *_), group in groupby(prompts, key=shape):
            alike = list(group)
            count = max(1, self.decoder.cells // cells**2)
            yield from (alike[at : at + count] for at in range(0, len(alike), count))

    def _decode(self, batch: Sequence[Prompt]) -> list[Prediction]:
        masks, ious = self.decoder.decode([p.view.embedding for p in batch], _prompts(batch))
        candidates = slice(1, None) if self.views.multimask else slice(0, 1)
        best = ious[:, candidates].argmax(axis=1)
        rows = np.arange(len(batch))
        best_logits, best_ious = masks[:, candidates][rows, best], ious[:, candidates][rows, best]
        pairs = zip(best_logits, best_ious, strict=True)
        return [Prediction(logits, float(value)) for logits, value in pairs]


def _with_masks(
    prompts: Sequence[Sequence[Prompt]],
    predictions: Sequence[Sequence[Prediction]],
    merged: Callable[[Sequence[Sequence[Prediction]]], list[MaskLogits]],
    with_point: bool,
) -> list[list[Prompt]]:
    """The prompts of the next round: each with its predicted mask, on request with the innermost
    point of the merged one."""
    points = [interior_point(mask) for mask in merged(predictions)] if with_point else None
    return [
        [
            p._replace(mask=prediction.logits, point=points[row] if points else p.point)
            for p, prediction in zip(own, predicted, strict=True)
        ]
        for row, (own, predicted) in enumerate(zip(prompts, predictions, strict=True))
    ]


def _merged(
    views: Sequence[View], predictions: Sequence[Prediction], size: tuple[int, int]
) -> MaskLogits:
    logits = np.stack([prediction.logits for prediction in predictions])
    rated = np.array([prediction.predicted_iou for prediction in predictions], np.float32)
    return merge_views(views, logits, rated, size)


def _prompts(batch: Sequence[Prompt]) -> Prompts:
    """The boxes, and the points and masks where there are any, in pixels of the views' pictures."""
    side = batch[0].view.embedding.shape[1] * STRIDE
    boxes = np.concatenate([prompt_box(p.box, p.view, side) for p in batch])
    points = [prompt_point(p.point, p.view, side) for p in batch if p.point is not None]
    masks = [np.clip(p.mask, -_MAX_LOGITS, _MAX_LOGITS)[None] for p in batch if p.mask is not None]
    return Prompts(torch.from_numpy(boxes), _stacked(points), _stacked(masks))


def _stacked(rows: Sequence[NDArray[np.float32]]) -> torch.Tensor | None:
    return torch.from_numpy(np.stack(rows)) if rows else None
