"""BMP files as other programs write them, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Palette = Sequence[tuple[int, int, int]]
RGB, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3


def rows(packed: Sequence[bytes], top_down: bool = False) -> bytes:
    """Rows of four bytes each, the lowest first."""
    padded = [row + b"\0" * (-len(row) % 4) for row in packed]
    return b"".join(padded if top_down else padded[::-1])


def bmp(
    size: tuple[int, int], bits: int, pixels: bytes, *, compression: int = RGB,
    palette: Palette = (), masks: Sequence[int] = (), top_down: bool = False, header: int = 40,
) -> bytes:  # fmt: skip
    """size: height and width. masks: of red, green, blue and perhaps alpha. header: its length: 12
    for OS/2, 40 for Windows, 64 for OS/2 2, 108 and 124 for later ones, which hold the masks."""
    height, width = size
    colours = b"".join(
        bytes((blue, green, red)) + (b"" if header == 12 else b"\0") for red, green, blue in palette
    )
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack(
            "<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression,
            len(pixels), 2835, 2835, len(palette), 0,
        )  # fmt: skip
        info += b"".join(struct.pack("<I", mask) for mask in masks)
        info += b"\0" * (header - len(info))
    start = 14 + len(info) + len(colours)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + colours + pixels


def run_lengths(values: NDArray[np.uint8]) -> bytes:
    """RLE8: each run is its length and value; 0 0 ends a row, 0 1 the picture."""
    data = b""
    for row in values[::-1]:
        starts = np.flatnonzero(np.diff(row, prepend=int(row[0]) + 1))
        for start, end in zip(starts, [*starts[1:], len(row)], strict=True):
            data += bytes((int(end - start), int(row[start])))
        data += b"\0\0"
    return data + b"\0\1"
