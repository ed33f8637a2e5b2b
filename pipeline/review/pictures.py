"""What the page shows of images: tiles, close-ups of objects, small views, and heat maps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.masks import Rle, to_patch
from pipeline.io.images import Image
from pipeline.review.picture_cache import TILE

CLOSE_UP = 256  # pixels of a close-up's side
_REACH, _LEAST = 1.7, 40.0  # of the box's longer side, and pixels of the image, that it shows
_FINE, _SMALL = 95, 88  # JPEG quality of tiles, and of close-ups
_FILL = 0.28  # weight of a mask's colour
Colour = tuple[int, int, int]


def tile(levels: list[Image], level: int, column: int, row: int) -> bytes | None:
    """A tile of a level as JPEG; None outside the image."""
    if not 0 <= level < len(levels):
        return None
    x, y = column * TILE, row * TILE
    part = levels[level][y : y + TILE, x : x + TILE]
    return jpeg(part, _FINE) if column >= 0 and row >= 0 and part.size else None


def jpeg(pixels: Image, quality: int) -> bytes:
    """RGB pixels as JPEG, with colours at full resolution."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), options)
    if not done:
        raise ValueError("pixels that cannot be written as JPEG")
    return data.tobytes()


def close_up(
    levels: list[Image], box: tuple[float, float, float, float], rle: Rle | None, colour: Colour
) -> bytes:
    """A square part of an image around a box, as JPEG: the mask tinted and outlined, or the box
    where there is no mask."""
    height, width = levels[0].shape[:2]
    side = max(max(box[2] - box[0], box[3] - box[1]) * _REACH, _LEAST)
    side = min(side, float(max(height, width)))
    x0 = _start((box[0] + box[2]) / 2, side, width)
    y0 = _start((box[1] + box[3]) / 2, side, height)
    level = min(max(int(np.log2(max(side / CLOSE_UP, 1.0))), 0), len(levels) - 1)
    scale = CLOSE_UP / side
    canvas = _cut(levels[level], x0 / 2**level, y0 / 2**level, side / 2**level)
    mask = np.zeros((CLOSE_UP, CLOSE_UP), np.uint8)
    if rle is None:
        left, top, right, bottom = (
            round((value - start) * scale) for value, start in zip(box, (x0, y0) * 2, strict=True)
        )
        cv2.rectangle(mask, (left, top), (right - 1, bottom - 1), 1, -1)
    else:
        mask = _drawn(rle, x0, y0, scale)
    return jpeg(_marked(canvas, mask, colour, fill=rle is not None), _SMALL)


def _start(centre: float, side: float, length: int) -> float:
    """Where a part of `side` pixels starts, so that it shows as much of the image as it can."""
    return min(max(centre - side / 2, 0.0), max(length - side, 0.0))


def _cut(image: Image, x: float, y: float, side: float) -> Image:
    """A square part resized to a close-up; the dark ground of the page outside the image."""
    scale = CLOSE_UP / side
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float64)
    matrix[:, 2] += (scale - 1) / 2  # centres of pixels, not their corners
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    border = (24, 26, 30)
    return np.asarray(
        cv2.warpAffine(image, matrix, (CLOSE_UP, CLOSE_UP), flags=flags, borderValue=border)
    )


def _drawn(rle: Rle, x: float, y: float, scale: float) -> NDArray[np.uint8]:
    """The mask in a close-up whose corner is at (x, y)."""
    patch = to_patch(rle)
    if not patch.pixels.size:
        return np.zeros((CLOSE_UP, CLOSE_UP), np.uint8)
    left, top = (patch.x - x) * scale, (patch.y - y) * scale
    matrix = np.array([[scale, 0, left], [0, scale, top]], np.float64)
    matrix[:, 2] += (scale - 1) / 2
    pixels = patch.pixels.astype(np.uint8) * 255
    smooth = cv2.warpAffine(pixels, matrix, (CLOSE_UP, CLOSE_UP), flags=cv2.INTER_LINEAR)
    return (np.asarray(smooth) > 127).astype(np.uint8)


def _marked(canvas: Image, mask: NDArray[np.uint8], colour: Colour, fill: bool) -> Image:
    paint = np.array(colour, np.float32)
    inside = mask > 0
    if fill:
        canvas[inside] = (canvas[inside] * (1 - _FILL) + paint * _FILL).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, (16, 18, 22), 3, cv2.LINE_AA)
    cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_AA)
    return canvas


def small_view(levels: list[Image], masks: list[tuple[Rle, Colour]]) -> bytes:
    """A whole image, at most a close-up high and wide, with the outlines of its masks, as JPEG."""
    smallest = levels[-1]
    scale = CLOSE_UP / max(levels[0].shape[:2])
    size = (max(round(levels[0].shape[1] * scale), 1), max(round(levels[0].shape[0] * scale), 1))
    canvas = np.array(cv2.resize(smallest, size, interpolation=cv2.INTER_AREA), np.uint8)
    for rle, colour in masks:
        mask = _drawn(rle, 0.0, 0.0, scale)[: size[1], : size[0]]
        canvas = _marked(canvas, np.ascontiguousarray(mask), colour, fill=True)
    return jpeg(canvas, _SMALL)


def heat_png(heatmap: NDArray[np.float32]) -> bytes:
    """A heat map (H, W) as PNG with alpha: nothing where it is lowest, and warm where it is high,
    at most 1024 pixels wide."""
    shrink = 1024 / max(heatmap.shape)
    if shrink < 1:
        heatmap = np.asarray(cv2.resize(heatmap, None, fx=shrink, fy=shrink), np.float32)
    low, high = (float(value) for value in np.percentile(heatmap, [50, 99.8]))
    share = np.clip((heatmap - low) / max(high - low, 1e-12), 0, 1)
    colours = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = (np.sqrt(share) * 200).astype(np.uint8)
    done, data = cv2.imencode(".png", np.dstack([colours, alpha]))
    if not done:
        raise ValueError("a heat map that cannot be written as PNG")
    return data.tobytes()
