"""Masks and boxes drawn on their image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle
from pipeline.types import Detections, Image

_COLOURS = ((214, 69, 69), (61, 145, 230), (63, 176, 109), (240, 180, 41), (150, 90, 200),
            (0, 160, 160), (230, 120, 60))  # fmt: skip
TRUTH = (63, 220, 109)
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_STRENGTH = 0.4  # weight of a mask's colour; the rest is the image


def overlay(image: Image, objects: Detections, categories: Sequence[str]) -> Image:
    """A copy of the image (H, W, 3) with each mask tinted, each box drawn, and the category and
    score of each object written beside it."""
    drawn = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 500))
    for index in range(len(objects)):
        label = int(objects.labels[index])
        colour = _COLOURS[label % len(_COLOURS)]
        if objects.masks is not None:
            tint(drawn, objects.masks[index], colour)
        x0, y0, x1, y1 = (round(float(value)) for value in objects.boxes[index])
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, thickness)
        text = categories[label]
        if objects.scores is not None:
            text += f" {objects.scores[index]:.2f}"
        (wide, _), _ = cv2.getTextSize(text, _FONT, _SIZE, thickness + 2)
        at = (max(min(x0, image.shape[1] - wide), 0), y0 - 4 if y0 > 14 else y1 + 14)
        for width, shade in ((thickness + 2, (255, 255, 255)), (thickness, colour)):
            cv2.putText(drawn, text, at, _FONT, _SIZE, shade, width, cv2.LINE_AA)
    return drawn


def heat_overlay(
    image: Image, heatmap: NDArray[np.float32], low: float, high: float, truth: Rle | None = None
) -> Image:
    """The image (H, W, 3) blended with its heat map (H, W), and the outline of the true mask in
    green. low, high: heat map values of the coldest and the hottest colour."""
    share = np.clip((heatmap - low) / max(high - low, 1e-12), 0, 1)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    drawn = np.ascontiguousarray((image * 0.5 + colours * 0.5).astype(np.uint8))
    if truth is not None:
        outline(drawn, mask_geometry.decode(truth), TRUTH)
    return drawn


def tint(image: Image, rle: Rle, colour: tuple[int, int, int]) -> None:
    """Colour the pixels of a mask in place, and draw its outline."""
    _paint(image, mask_geometry.decode(rle), colour, _line(image))


def outline(image: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Draw the contour of a mask (H, W) in place."""
    _outline(image, mask, colour, _line(image))


def close_up(
    image: Image, mask: Rle, truth: Rle | None, box: NDArray[np.float32], side: int = 220
) -> Image:
    """A crop around a box (4,) xyxy, resized to (side, side, 3): the mask in red, and the outline
    of the true mask in green; without truth, the box in white. For a box outside the image, the
    crop is at the nearest place inside."""
    height, width = image.shape[:2]
    centre_x = min(max(float(box[0] + box[2]) / 2, 0.0), float(width))
    centre_y = min(max(float(box[1] + box[3]) / 2, 0.0), float(height))
    reach = max(float(box[2] - box[0]), float(box[3] - box[1]), 48.0) * 0.75
    x0, y0 = max(round(centre_x - reach), 0), max(round(centre_y - reach), 0)
    x1, y1 = min(round(centre_x + reach), width), min(round(centre_y + reach), height)
    window, line = np.s_[y0:y1, x0:x1], _line(image)
    crop = image[window].copy()
    _paint(crop, mask_geometry.decode(mask)[window], _COLOURS[0], line)
    if truth is not None:
        _outline(crop, mask_geometry.decode(truth)[window], TRUTH, line)
    else:
        left, top, right, bottom = (round(float(value)) for value in box)
        corners = (left - x0 - 1, top - y0 - 1), (right - x0, bottom - y0)
        cv2.rectangle(crop, *corners, (255, 255, 255), 1)
    scale = side / max(crop.shape[:2])
    resized = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    canvas = np.full((side, side, 3), 255, dtype=np.uint8)
    canvas[: resized.shape[0], : resized.shape[1]] = resized[:side, :side]
    return canvas


def _paint(image: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int], line: int) -> None:
    paint = np.array(colour, dtype=np.float32)
    image[mask] = (image[mask] * (1 - _STRENGTH) + paint * _STRENGTH).astype(np.uint8)
    _outline(image, mask, colour, line)


def _outline(
    image: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int], line: int
) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, colour, line)


def _line(image: Image) -> int:
    """Thickness of lines on an image, in pixels."""
    return max(1, round(float(max(image.shape[:2])) / 700))
