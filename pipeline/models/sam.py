"""SAM as a `Segmenter`: boxes to masks, each with figures that say how far to trust it.

An object is seen on the whole image, as segment-anything's `SamPredictor` does, or closely: the
part around its box at several zooms and in several positions, over whose answers the mean is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, area, as_boxes, clip
from pipeline.geometry.patches import Patch
from pipeline.geometry.windows import Window
from pipeline.memory import keep_freed_memory
from pipeline.models.cuts import Cut, Logits, Remembered, consensus, inmost, limited, patch_of
from pipeline.models.decoders import PromptDecoder
from pipeline.models.encoders import STRIDE, ImageEncoder
from pipeline.models.looks import (
    Look,
    Looks,
    close_looks,
    highest,
    moved_boxes,
    padded,
    prompt_box,
    shrunk,
)
from pipeline.models.patch_memory import PatchMemory
from pipeline.models.quality import measures, quality_table
from pipeline.models.sam_network import Prompts
from pipeline.types import Image, Masks

_BATCH = 8  # pictures decoded at once
_ABOUT = 0.25  # of a box's sides, about it
_MANY_LOGITS = 32.0  # what segment-anything clips its own mask prompts to in training


class SamSegmenter:
    """A `Segmenter`. Two calls for one image encode it twice unless the encoder has a cache."""

    def __init__(
        self,
        decoder: PromptDecoder,
        whole: ImageEncoder,
        close: ImageEncoder,
        looks: Looks | None = None,
        memory: PatchMemory | None = None,
    ) -> None:
        """`whole` encodes images, `close` windows. `memory` adds to SAM's logits what known masks
        say of a pixel. The segmenter's own `key` names all that an answer depends on but image and
        prompts."""
        keep_freed_memory()
        self.decoder = decoder
        self.whole, self.close = whole, close
        self.looks = looks or Looks()
        self.memory = memory
        remembered = memory.key if memory else None
        self.key = f"{decoder.key} {whole.key} {close.key} {self.looks} {remembered}"

    def segment(self, image: Image, boxes: Boxes, heatmap: Logits | None = None) -> Masks:
        """One mask per box, in order, with the figures of `quality.measures`, each in [0, 1].

        heatmap: (H, W) of any range; its highest place inside a box is told SAM as a point. A box
        without pixels inside the image, or whose mask comes out empty, is marked failed, has an
        empty mask, and 0 for every figure.
        """
        height, width = image.shape[:2]
        clipped = clip(padded(boxes, self.looks.pad), height, width)
        usable = np.isfinite(boxes).all(axis=1) & (area(clipped) > 0)
        patches = [Patch(0, 0, np.zeros((0, 0), bool))] * len(boxes)
        figures: list[dict[str, float]] = [{} for _ in range(len(boxes))]
        whole: list[Look] = []
        for row in np.flatnonzero(usable):
            looks = self._looks(image, clipped[row], whole)
            patches[row], figures[row] = self._object(image, looks, clipped[row], heatmap)
        failed = np.array([not patch.pixels.size for patch in patches], dtype=bool)
        return Masks(
            masks=tuple(mask_geometry.encode_patches(patches, height, width)),
            failed=failed,
            quality=quality_table(figures),
        )

    def _looks(self, image: Image, box: NDArray[np.float32], whole: list[Look]) -> list[Look]:
        """The looks at one object; the one at the whole image is made once, and kept in `whole`."""
        longest = max(image.shape[:2])
        if max(box[2] - box[0], box[3] - box[1]) < self.looks.zoom_below * longest:
            return close_looks(image, box, self.close, self.looks.zooms, self.looks.turns)
        if not whole:
            window = Window(0.0, 0.0, float(longest))
            whole.append(Look(window, 0, self.whole.encode([shrunk(image, self.whole.side)])[0]))
        return whole

    def _object(
        self,
        image: Image,
        looks: Sequence[Look],
        box: NDArray[np.float32],
        heatmap: Logits | None,
    ) -> tuple[Patch, dict[str, float]]:
        size = (image.shape[0], image.shape[1])
        known = self._remembered(image, box)
        point = None if heatmap is None else highest(heatmap, box)
        boxes = np.repeat(as_boxes(box), len(looks), axis=0)
        logits, predicted = self._answers(looks, boxes, point, None)
        found = known.told(consensus(looks, logits, predicted, size))
        for _ in range(1, self.looks.rounds):
            if self.looks.point:
                point = inmost(found)
            logits, predicted = self._answers(looks, boxes, point, logits)
            found = known.told(consensus(looks, logits, predicted, size))
        limits = None if self.looks.reach is None else padded(as_boxes(box), self.looks.reach)[0]
        patch = patch_of(found, limits)
        if not patch.pixels.size:
            return patch, {}
        single = [limited(other, limits) for other in found.single]
        others = self._tried(looks[0], box, size)
        tried = [patch_of(known.told(other), limits) for other in others]
        return patch, measures(patch, found, box, size, single, tried)

    def _remembered(self, image: Image, box: NDArray[np.float32]) -> Remembered:
        """What known masks say of the pixels about a box."""
        if self.memory is None:
            return Remembered(0, 0, np.zeros((0, 0), np.float32))
        wide = padded(as_boxes(box), _ABOUT)[0]
        x0, y0 = np.maximum(np.floor(wide[:2]), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(wide[2:]), image.shape[1::-1]).astype(int)
        return Remembered(int(x0), int(y0), self.memory.ratio(image, x0, y0, x1, y1))

    def _tried(self, look: Look, box: NDArray[np.float32], size: tuple[int, int]) -> list[Cut]:
        """What one look makes of boxes a little beside this one."""
        others = moved_boxes(box, self.looks.jitters)
        if not others:
            return []
        logits, predicted = self._answers([look] * len(others), as_boxes(others), None, None)
        pairs = zip(logits, predicted, strict=True)
        return [consensus([look], low[None], rated[None], size) for low, rated in pairs]

    def _answers(
        self,
        looks: Sequence[Look],
        boxes: Boxes,
        point: NDArray[np.float32] | None,
        first: Logits | None,
    ) -> tuple[Logits, NDArray[np.float32]]:
        """Each look's chosen logits (N, S, S) for its box of `boxes` (N, 4), in its own position,
        and their predicted IoU (N,)."""
        chosen, rated = [], []
        for start in range(0, len(looks), _BATCH):
            some = looks[start : start + _BATCH]
            before = None if first is None else first[start : start + _BATCH]
            four, iou = self.decoder.decode(
                [look.embedding for look in some],
                _prompts(some, boxes[start : start + _BATCH], point, before),
            )
            offered = slice(1, None) if self.looks.multimask else slice(0, 1)
            best = iou[:, offered].argmax(axis=1)
            rows = np.arange(len(some))
            chosen.append(four[:, offered][rows, best])
            rated.append(iou[:, offered][rows, best])
        return np.concatenate(chosen), np.concatenate(rated)


def _prompts(
    looks: Sequence[Look],
    boxes: Boxes,
    point: NDArray[np.float32] | None,
    first: Logits | None,
) -> Prompts:
    """Each look's box, the point, and its first mask, in the pixels of its picture."""
    side = looks[0].embedding.shape[1] * STRIDE
    pairs = zip(boxes, looks, strict=True)
    prompts = np.concatenate([prompt_box(box, look, side) for box, look in pairs])
    points = None
    if point is not None:
        at = np.concatenate([point, point]).astype(np.float32)
        points = torch.from_numpy(np.stack([prompt_box(at, k, side)[:, :2] for k in looks]))
    logits = None
    if first is not None:
        logits = torch.from_numpy(np.clip(first, -_MANY_LOGITS, _MANY_LOGITS)[:, None])
    return Prompts(torch.from_numpy(prompts), points, logits)
