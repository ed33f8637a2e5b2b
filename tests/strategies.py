"""Masks as hypothesis draws them: the shapes that converters lose."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))
noise = arrays(np.bool_, sizes)


@st.composite
def scratches(draw: st.DrawFn) -> np.ndarray:
    """A line one pixel wide, anywhere, also along and across the border."""
    height, width = draw(sizes)
    ends = [(draw(st.integers(-2, width)), draw(st.integers(-2, height))) for _ in range(2)]
    canvas = np.zeros((height, width), np.uint8)
    cv2.line(canvas, ends[0], ends[1], 1)
    return np.asarray(canvas, bool)


@st.composite
def rings(draw: st.DrawFn) -> np.ndarray:
    """A block with a hole, which may hold a block again."""
    height, width = draw(st.integers(5, 24)), draw(st.integers(5, 24))
    mask = np.ones((height, width), bool)
    margin = draw(st.integers(1, 2))
    mask[margin:-margin, margin:-margin] = False
    mask[margin + 1 : -margin - 1, margin + 1 : -margin - 1] = draw(st.booleans())
    return mask if draw(st.booleans()) else np.pad(mask, draw(st.integers(0, 3)))


@st.composite
def extremes(draw: st.DrawFn) -> np.ndarray:
    """Empty, full, one pixel, or all but one."""
    height, width = draw(sizes)
    mask = np.full((height, width), draw(st.booleans()))
    if draw(st.booleans()):
        row, column = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[row, column] ^= True
    return mask


masks = st.one_of(noise, scratches(), rings(), extremes())
