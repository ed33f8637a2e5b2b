"""SAM as a `Segmenter`: boxes to masks, each with figures that say how far to trust it.

An object is seen on the whole image, as segment-anything's `SamPredictor` does, or closely: the
part around its box at several zooms and in several positions, over whose answers the mean is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes, area, as_boxes, clip
from pipeline.geometry.patches import Patch, tight
from pipeline.geometry.windows import Window, put_back, turned_back
from pipeline.memory import keep_freed_memory
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
from pipeline.models.quality import Calibration, measures, quality_table
from pipeline.models.sam_network import Prompts
from pipeline.types import Image, Masks

Logits = NDArray[np.float32]
_BATCH = 8  # pictures decoded at once
_CERTAIN = 8.0  # logits; beyond, one look's answer would outvote the others'
_UNLIKELY, _RIM = -4.0, 2  # logits; cells of SAM's grid
_MANY_LOGITS = 32.0  # what segment-anything clips its own mask prompts to in training


class Cut(NamedTuple):
    """One object's logits at the image's scale, the first at pixel (x, y), and what was seen."""

    x: int
    y: int
    logits: Logits
    predicted_iou: float
    single: list[Patch]  # each look's own mask


class SamSegmenter:
    """A `Segmenter`. Two calls for one image encode it twice unless the encoder has a cache."""

    def __init__(
        self,
        decoder: PromptDecoder,
        whole: ImageEncoder,
        close: ImageEncoder,
        looks: Looks | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        """`whole` encodes images, `close` windows. `calibration` turns the figures into an expected
        IoU. The segmenter's own `key` names all that an answer depends on but image and prompts."""
        keep_freed_memory()
        self.decoder = decoder
        self.whole, self.close = whole, close
        self.looks = looks or Looks()
        self.calibration = calibration
        fitted = calibration.to_json() if calibration else None
        self.key = f"{decoder.key} {whole.key} {close.key} {self.looks} {fitted}"

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
            patches[row], figures[row] = self._object(looks, clipped[row], (height, width), heatmap)
        failed = np.array([not patch.pixels.size for patch in patches], dtype=bool)
        return Masks(
            masks=tuple(mask_geometry.encode_patches(patches, height, width)),
            failed=failed,
            quality=self._quality(figures, failed),
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
        looks: Sequence[Look],
        box: NDArray[np.float32],
        size: tuple[int, int],
        heatmap: Logits | None,
    ) -> tuple[Patch, dict[str, float]]:
        point = None if heatmap is None else highest(heatmap, box)
        boxes = np.repeat(as_boxes(box), len(looks), axis=0)
        logits, predicted = self._answers(looks, boxes, point, None)
        found = _consensus(looks, logits, predicted, size)
        for _ in range(1, self.looks.rounds):
            if self.looks.point:
                point = _inmost(found)
            logits, predicted = self._answers(looks, boxes, point, logits)
            found = _consensus(looks, logits, predicted, size)
        limits = None if self.looks.reach is None else padded(as_boxes(box), self.looks.reach)[0]
        patch = patch_of(found, limits)
        if not patch.pixels.size:
            return patch, {}
        single = [_limited(other, limits) for other in found.single]
        tried = [patch_of(other, limits) for other in self._tried(looks[0], box, size)]
        return patch, measures(patch, found, box, size, single, tried)

    def _tried(self, look: Look, box: NDArray[np.float32], size: tuple[int, int]) -> list[Cut]:
        """What one look makes of boxes a little beside this one."""
        others = moved_boxes(box, self.looks.jitters)
        if not others:
            return []
        logits, predicted = self._answers([look] * len(others), as_boxes(others), None, None)
        pairs = zip(logits, predicted, strict=True)
        return [_consensus([look], low[None], rated[None], size) for low, rated in pairs]

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

    def _quality(
        self, figures: Sequence[dict[str, float]], failed: NDArray[np.bool_]
    ) -> dict[str, NDArray[np.float32]]:
        table = quality_table(figures)
        if self.calibration is not None and len(failed):
            known = set(self.calibration.names) <= table.keys()
            expected = self.calibration.expected_iou(table) if known else np.zeros(len(failed))
            table["expected_iou"] = np.where(failed, 0, expected).astype(np.float32)
        return table


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


def _consensus(
    looks: Sequence[Look],
    logits: Logits,
    predicted: NDArray[np.float32],
    size: tuple[int, int],
) -> Cut:
    """The mean of all looks that see a pixel. Looks through one window meet on its own grid."""
    by_window: dict[Window, list[Logits]] = {}
    for look, answer in zip(looks, logits, strict=True):
        upright = np.asarray(turned_back(answer, look.turn), np.float32)
        if len(looks) > 1:
            upright = np.clip(upright, -_CERTAIN, _CERTAIN)
        by_window.setdefault(look.window, []).append(upright)
    means = {w: np.asarray(np.mean(rows, axis=0), np.float32) for w, rows in by_window.items()}
    single = []
    if len(looks) > 1:
        placed = [put_back(row, w, size) for w, rows in by_window.items() for row in rows]
        single = [patch_of(Cut(*part, 0.0, []), None) for part in placed]
    if len(means) == 1:
        window, mean = next(iter(means.items()))
        return Cut(*put_back(*_where_likely(mean, window), size), float(predicted.mean()), single)
    parts = [put_back(mean, window, size) for window, mean in means.items()]
    x0, y0 = min(part[0] for part in parts), min(part[1] for part in parts)
    x1 = max(x + values.shape[1] for x, _, values in parts)
    y1 = max(y + values.shape[0] for _, y, values in parts)
    total = np.zeros((y1 - y0, x1 - x0), np.float32)
    count = np.zeros_like(total)
    for x, y, values in parts:
        place = np.s_[y - y0 : y - y0 + values.shape[0], x - x0 : x - x0 + values.shape[1]]
        total[place] += values
        count[place] += 1
    return Cut(
        x0,
        y0,
        np.asarray(total / np.maximum(count, 1), np.float32),
        float(predicted.mean()),
        single,
    )


def _where_likely(logits: Logits, window: Window) -> tuple[Logits, Window]:
    """The square part of a window's logits in which any pixel could be the object's, and a rim:
    bringing the rest to the image's scale would cost much and show nothing."""
    rows, columns = (np.flatnonzero((logits > _UNLIKELY).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return logits, window
    count = len(logits)
    longer = max(int(np.ptp(rows)), int(np.ptp(columns)))
    side = min(count, longer + 1 + 2 * _RIM)
    top = min(max(int(rows[0]) - _RIM, 0), count - side)
    left = min(max(int(columns[0]) - _RIM, 0), count - side)
    cell = window.side / count
    part = Window(window.x + left * cell, window.y + top * cell, side * cell)
    return np.ascontiguousarray(logits[top : top + side, left : left + side]), part


def patch_of(found: Cut, limits: NDArray[np.float32] | None) -> Patch:
    """The mask of a cut, as far as its pixels' centres are inside `limits` (4,)."""
    return _limited(tight(found.logits > 0, found.x, found.y), limits)


def _limited(patch: Patch, limits: NDArray[np.float32] | None) -> Patch:
    """The patch's pixels whose centres are inside a box (4,)."""
    if limits is None or not patch.pixels.size:
        return patch
    x0, y0, x1, y1 = np.ceil(limits - 0.5).astype(int)
    left, top = max(x0 - patch.x, 0), max(y0 - patch.y, 0)
    inside = patch.pixels[top : max(y1 - patch.y, 0), left : max(x1 - patch.x, 0)]
    return tight(np.ascontiguousarray(inside), patch.x + left, patch.y + top)


def _inmost(found: Cut) -> NDArray[np.float32] | None:
    """The point (x, y) of a mask that lies farthest from its edge."""
    import cv2

    mask = np.pad((found.logits > 0).astype(np.uint8), 1)
    if not mask.any():
        return None
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([found.x + x - 0.5, found.y + y - 0.5], np.float32)
