"""Pairs of images side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.types import Image

_SIDE, _LINE, _GAP = 256, 22, 8  # pixels: of an image, of its caption, between images
_COLUMNS = 2  # pairs in a row
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.38
_LETTERS = 36  # of a caption

Captioned = tuple[Image, str]


def side_by_side(pairs: Sequence[tuple[Captioned, Captioned]]) -> Image:
    """A picture (H, W, 3) of pairs of images (H, W, 3) with a caption under each."""
    drawn = [np.hstack([_tile(*one), _tile(*other)]) for one, other in pairs]
    blank = np.full_like(drawn[0], 255)
    rows = [
        np.hstack([*row, *[blank] * (min(_COLUMNS, len(drawn)) - len(row))])
        for row in (drawn[at : at + _COLUMNS] for at in range(0, len(drawn), _COLUMNS))
    ]
    return np.asarray(np.vstack(rows), np.uint8)


def _tile(image: Image, caption: str) -> Image:
    scale = _SIDE / max(image.shape[:2])
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    tile = np.full((_SIDE + _LINE + _GAP, _SIDE + _GAP, 3), 255, np.uint8)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    tile[:height, :width] = resized
    half = _LETTERS // 2
    text = caption if len(caption) <= _LETTERS else f"{caption[:half]}...{caption[3 - half :]}"
    plain = text.encode("ascii", "replace").decode()  # the font has no other letters
    cv2.putText(tile, plain, (0, _SIDE + 15), _FONT, _SIZE, (40, 40, 40), 1, cv2.LINE_AA)
    return tile
