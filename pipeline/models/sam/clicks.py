"""SAM by clicks: points inside and outside of one object.

An encoder that takes small pictures (TinyViT) sees a close crop, as it does in training: on drawn
zippers, two clicks on a crop of 256 px correct a mask as well as on the whole image at 1024 px, and
the decoder needs a seventh of the time. Another encoder sees the whole image, encoded once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.crops import Crop, crop_image, square_crop
from pipeline.geometry.patches import Patch, paste
from pipeline.models.sam.decoders import PromptDecoder
from pipeline.models.sam.encoders import STRIDE, ImageEncoder
from pipeline.models.sam.merge_views import merge_views, patch_of
from pipeline.models.sam.network import MASK_STRIDE, Prompts
from pipeline.models.sam.predictor import SamSegmenter
from pipeline.models.sam.views import View, prompt_box, prompt_point, resize_longest
from pipeline.types import Image

Box = tuple[float, float, float, float]
_KEPT = 16  # embeddings in memory, of 2 MB or less each
_AROUND = 2.4  # of the longer side of all prompts: the crop of a correction
_FIRST = 0.25  # of the image's longer side, or the encoder's own side: the crop of a first click
_LEAST = 64.0  # pixels of a crop
_SURE = 8.0  # logits of a mask that is given as a prompt


@dataclass(frozen=True)
class Click:
    """A point (x, y) in pixels. inside: whether the object is there."""

    x: float
    y: float
    inside: bool = True


class ClickPredictor:
    """Masks from clicks, of any image by its key."""

    def __init__(self, decoder: PromptDecoder, whole: ImageEncoder, close: ImageEncoder) -> None:
        """whole, close: the encoders of whole images and of crops."""
        self._decoder, self._whole, self._close = decoder, whole, close
        self._kept: OrderedDict[tuple[int, Crop], View] = OrderedDict()

    @classmethod
    def of(cls, segmenter: SamSegmenter) -> ClickPredictor:
        """The predictor with the networks of a segmenter."""
        return cls(segmenter.decoder, segmenter.whole, segmenter.close)

    def prepare(self, key: int, image: Image) -> None:
        """Do what the first click on an image would wait for: encode it, or load the encoder."""
        height, width = image.shape[:2]
        self._view(key, image, self._crop(image, [Click(width / 2, height / 2)], None))

    def predict(
        self, key: int, image: Image, clicks: Sequence[Click], before: Patch | None = None
    ) -> tuple[Patch, float]:
        """The mask, and the IoU that SAM predicts, in [0, 1].

        image: (H, W, 3) uint8 RGB, the same for one key. before: the mask that the clicks correct.
        SAM's single mask is taken, also for one click: of the other three, those that it rates best
        are worse on drawn defects. Raises ValueError without a click.
        """
        if not clicks:
            raise ValueError("SAM needs a click")
        if before is not None and not before.pixels.size:
            before = None
        box = _around(clicks, before) if before or len(clicks) > 1 else None
        view = self._view(key, image, self._crop(image, clicks, box))
        prompts = _prompts(view, image, clicks, box if before else None, before)
        logits, rated = self._decoder.decode([view.embedding], prompts)
        predicted = np.array([rated[0, 0]], np.float32)
        merged = merge_views([view], logits[:, 0], predicted, (image.shape[0], image.shape[1]))
        return patch_of(merged, None), float(np.clip(predicted[0], 0, 1))

    def _crop(self, image: Image, clicks: Sequence[Click], box: Box | None) -> Crop:
        longest = float(max(image.shape[:2]))
        if self._close.side >= self._whole.side:
            return Crop(0.0, 0.0, longest)
        if box is not None:
            return square_crop(as_boxes([box])[0], _AROUND, _LEAST)
        side = min(max(float(self._close.side), longest * _FIRST), longest)
        return Crop(clicks[0].x - side / 2, clicks[0].y - side / 2, side)

    def _view(self, key: int, image: Image, crop: Crop) -> View:
        """The view of a crop, from memory if it is there."""
        if (key, crop) not in self._kept:
            is_whole = self._close.side >= self._whole.side
            encoder = self._whole if is_whole else self._close
            side = encoder.side
            picture = resize_longest(image, side) if is_whole else crop_image(image, crop, side)
            self._kept[key, crop] = View(crop, 0, encoder.encode([picture])[0])
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end((key, crop))
        return self._kept[key, crop]


def _around(clicks: Sequence[Click], before: Patch | None) -> Box:
    """The box of a mask and of all clicks that are inside the object."""
    corners = [(click.x, click.y) for click in clicks if click.inside or before is None]
    if before is not None:
        x0, y0, x1, y1 = before.box
        corners += [(x0, y0), (x1, y1)]
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _prompts(
    view: View, image: Image, clicks: Sequence[Click], box: Box | None, before: Patch | None
) -> Prompts:
    """The prompts in pixels of the view's picture."""
    side = view.embedding.shape[1] * STRIDE
    places = [np.array([click.x, click.y], np.float32) for click in clicks]
    points = torch.from_numpy(np.stack([prompt_point(p, view, side) for p in places], axis=1))
    outside = torch.tensor([[not click.inside for click in clicks]])
    boxes = None
    if box is not None:
        boxes = torch.from_numpy(prompt_box(as_boxes([box])[0], view, side))
    first = None if before is None else _as_logits(before, view, image, side // MASK_STRIDE)
    return Prompts(boxes, points, first, outside)


def _as_logits(patch: Patch, view: View, image: Image, cells: int) -> torch.Tensor:
    """A mask as the logits (1, 1, cells, cells) that SAM takes for a first mask of a view."""
    x, y = view.crop.x, view.crop.y
    x0, y0 = max(int(x) - 1, 0), max(int(y) - 1, 0)
    x1 = min(int(np.ceil(x + view.crop.side)) + 1, image.shape[1])
    y1 = min(int(np.ceil(y + view.crop.side)) + 1, image.shape[0])
    part = Patch(patch.x - x0, patch.y - y0, patch.pixels)
    mask = paste(part, max(y1 - y0, 1), max(x1 - x0, 1)).astype(np.float32)
    scale = cells / view.crop.side
    if scale < 1:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.4 / scale), np.float32)
    matrix = np.array([[scale, 0, (x0 - x) * scale], [0, scale, (y0 - y) * scale]])
    share: NDArray[np.float32] = np.asarray(
        cv2.warpAffine(mask, matrix, (cells, cells), flags=cv2.INTER_LINEAR), np.float32
    )
    return torch.from_numpy((share * 2 - 1) * np.float32(_SURE))[None, None]
