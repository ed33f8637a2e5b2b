"""Masks as PNG, read several times faster than by libpng.

Most of a mask's decoding time goes into inflating and unfiltering background. zlib-ng inflates
background at the speed of memory, and a row without residuals is a row without change, so that only
rows with an edge in them need work. PNG specification (ISO/IEC 15948), sections 5, 9 and 10.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_BYTES, _MAX_SIDE = 1 << 31, 1 << 20  # bytes of all rows; pixels of a side
_MAX_CHUNKS = 1 << 18  # a file of more is left to a general decoder
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


def read_grey(data: bytes) -> Grey | None:
    """Decode a PNG of one 8-bit grey channel to (H, W) uint8.

    None for every other file: broken, interlaced, of another kind, or filtered in a way that only a
    general decoder undoes (Paeth's filter on more than two values, or the average filter).
    """
    from zlib_ng import zlib_ng

    header, stream = _chunks(data)
    if header is None or header[2:] != (8, 0, 0, 0, 0):  # depth, colour, deflate, filter, interlace
        return None
    width, height = header[:2]
    size = height * (width + 1)
    if not (width and height) or max(width, height) > _MAX_SIDE or size > _MAX_BYTES:
        return None
    inflater = zlib_ng.decompressobj()
    try:
        raw = inflater.decompress(stream, size + 1)  # no further, whatever the stream holds
    except zlib_ng.error:  # type: ignore[misc]  # an exception, but typed as anything
        return None
    if not inflater.eof or len(raw) != size:
        return None
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(height, width + 1)
    return _unfilter(rows[:, 0], rows[:, 1:])


def _chunks(data: bytes) -> tuple[tuple[int, ...] | None, bytes]:
    """IHDR's seven fields and the compressed stream; None without an end or with transparency."""
    header: tuple[int, ...] | None = None
    stream = []
    at = len(_SIGNATURE)
    if not data.startswith(_SIGNATURE):
        return None, b""
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            break
        body = slice(at + 8, at + 8 + length)
        if kind == b"IHDR" and length == 13 and header is None:
            header = struct.unpack(">IIBBBBB", data[body])
        elif kind == b"IDAT":
            stream.append(data[body])
        elif kind == b"tRNS":
            return None, b""
        elif kind == b"IEND":
            return header, stream[0] if len(stream) == 1 else b"".join(stream)
        at += 12 + length
    return None, b""


def _unfilter(filters: Grey, residuals: NDArray[np.uint8]) -> Grey | None:
    """Undo the filters (H,) of rows (H, W).

    Pixels above the residuals and left of them are 0. Right of them each row repeats its last
    pixel; below them each column does, as long as the rows are predicted from the row above.
    """
    import cv2

    if filters.max(initial=0) > _PAETH:
        return None
    pixels = np.zeros(residuals.shape, dtype=np.uint8)
    x, y, width, height = cv2.boundingRect(residuals)
    if not width:
        return pixels
    right, below = min(x + width + 1, len(residuals[0])), y + height  # 1: an unfiltered row ends
    core = _unfilter_core(filters[y:below], residuals[y:below, x:right])
    others = np.flatnonzero((filters[below:] != _UP) & (filters[below:] != _PAETH))
    end = below + int(others[0]) if len(others) else len(filters)
    if core is None or (end < len(filters) and filters[end] == _AVERAGE):
        return None
    pixels[y:below, x:right] = core
    if end > below:
        pixels[below:end, x:right] = core[-1]
    if core[:, -1].any():
        pixels[y:end, right:] = pixels[y:end, right - 1 : right]
    return pixels


def _unfilter_core(filters: Grey, residuals: NDArray[np.uint8]) -> Grey | None:
    """Undo the filters of rows with 0 above and left of them. Rows predicted from the left are
    summed at once; rows predicted from above follow in order, a run of equal filters at a time."""
    busy = residuals.any(axis=1)
    types = np.where((filters == _PAETH) & ~busy, _UP, filters)  # no residual: the row above
    if (types == _AVERAGE).any():
        return None
    pixels = residuals.copy()
    left = np.flatnonzero(busy & (types == _SUB))
    pixels[left] = np.add.accumulate(pixels[left], axis=1, dtype=np.uint8)
    starts = np.flatnonzero(np.diff(types, prepend=255)).tolist()
    for start, end in zip(starts, [*starts[1:], len(types)], strict=True):
        if types[start] == _UP:
            block = pixels[max(start - 1, 0) : end]
            np.add.accumulate(block, axis=0, dtype=np.uint8, out=block)
        elif types[start] == _PAETH:
            for row in range(start, end):
                above = pixels[row - 1] if row else np.zeros_like(pixels[0])
                decoded = _paeth(above, residuals[row])
                if decoded is None:
                    return None
                pixels[row] = decoded
    return pixels


def _paeth(above: Grey, residual: NDArray[np.uint8]) -> Grey | None:
    """Undo Paeth's filter in a row of two values, 0 and v; None where it has others.

    With two values the predictor is the left pixel where the two above are equal and the pixel
    above where they differ; so a pixel is known from the last place where they differed, turned
    over once for each residual since.
    """
    value = int(above.max(initial=0)) or int(residual[np.flatnonzero(residual)[0]])
    diagonal = np.concatenate([above[:1] * 0, above[:-1]])
    anchor = above != diagonal
    turns = np.cumsum(residual != 0)
    last = np.maximum.accumulate(np.where(anchor, np.arange(len(above)), -1))
    since = np.where(last >= 0, turns - turns[last] + (residual[last] != 0), turns)
    start_value = np.where(last >= 0, above[last] != 0, False)
    decoded = ((since + start_value) % 2 * value).astype(np.uint8)
    before = np.concatenate([decoded[:1] * 0, decoded[:-1]])
    predicted = np.where(anchor, above, before)
    return decoded if np.array_equal(predicted + residual, decoded) else None
