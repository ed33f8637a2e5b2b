"""Label Studio's brush code, rle-pack (github.com/thi-ng/umbrella, packages/rle-pack).

The code starts with 32 bits for the number of values, 5 bits for the size of a value less 1, and
four times 4 bits for the sizes of run lengths less 1. Blocks follow: 1 bit for a run (1) or
literals (0), 2 bits that select a size of length, the length less 1 in that size, then one value
for a run or `length` values for literals. The values are the RGBA bytes of the image, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.patches import Mask

_SIZES = np.array([3, 4, 8, 16])  # bits of a run's length
_MAX_RUN = 1 << 16
_HEAD = 53  # bits before the first block
_CHUNK = 1 << 16  # blocks packed at a time


def encode_brush(mask: Mask) -> list[int]:
    """A mask (H, W) as rle-pack bytes. All four channels of a pixel are 0 or 255."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]])) * 4
    blocks = -(-lengths // _MAX_RUN)  # a run of more takes several
    steps = np.full(int(blocks.sum()), _MAX_RUN)
    steps[np.cumsum(blocks) - 1] = lengths - (blocks - 1) * _MAX_RUN
    values = np.repeat(flat[starts], blocks).astype(np.int64) * 255
    head = f"{flat.size * 4:032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    bits = [np.frombuffer(head.encode(), dtype=np.uint8) - ord("0")]
    bits += [
        _block_bits(steps[start : start + _CHUNK], values[start : start + _CHUNK])
        for start in range(0, len(steps), _CHUNK)
    ]
    code: list[int] = np.packbits(np.concatenate(bits)).tolist()
    return code


def _block_bits(steps: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The bits of runs: a 1, the index of the size, the length less 1, the value."""
    choice = np.searchsorted(1 << _SIZES, steps)
    sizes = _SIZES[choice]
    codes = (((4 | choice) << sizes) | (steps - 1)) << 8 | values
    widths = 3 + sizes + 8
    aligned = (codes << (32 - widths)).astype(">u4")
    bits = np.unpackbits(aligned.view(np.uint8).reshape(-1, 4), axis=1)
    return np.asarray(bits[np.arange(32) < widths[:, None]])


def decode_brush(data: Sequence[int], height: int, width: int) -> Mask:
    """The mask (H, W) of rle-pack bytes: the pixels whose alpha is not 0.

    Raises ValueError for faulty code. The number of values is checked before memory is allocated.
    """
    code = bytes(data)
    count, bits = _read(code, 0, 32), _read(code, 32, 5) + 1
    sizes = [_read(code, 37 + 4 * number, 4) + 1 for number in range(4)]
    if count != height * width * 4:
        raise ValueError(f"a brush of {count} values on an image of {width}x{height}")
    drawn = np.zeros(height * width, dtype=bool)
    at, place = _HEAD, 0
    while place < count:
        head = _read(code, at, 3)
        size = sizes[head & 3]
        end = place + _read(code, at + 3, size) + 1
        at += 3 + size
        if end > count:
            raise ValueError("a brush has a run past the end of the image")
        if head & 4:
            drawn[place // 4 : end // 4] = _read(code, at, bits) > 0
            at += bits
        else:
            literals = _literals(code, at, bits, end - place)
            drawn[place // 4 : end // 4] = literals[3 - place % 4 :: 4]
            at += bits * (end - place)
        place = end
    return drawn.reshape(height, width)


def _read(code: bytes, at: int, size: int) -> int:
    """The number of `size` bits that starts at bit `at`. Raises ValueError past the end."""
    end = at + size
    if end > 8 * len(code):
        raise ValueError("a brush ends in the middle of a run")
    word = int.from_bytes(code[at // 8 : (end + 7) // 8], "big")
    return (word >> (-end % 8)) & ((1 << size) - 1)


def _literals(code: bytes, at: int, bits: int, count: int) -> Mask:
    """For `count` numbers of `bits` bits each, from bit `at` on: whether each is not 0."""
    end = at + bits * count
    if end > 8 * len(code):
        raise ValueError("a brush ends in the middle of its values")
    raw = np.frombuffer(code[at // 8 : (end + 7) // 8], dtype=np.uint8)
    numbers = np.unpackbits(raw)[at % 8 : at % 8 + bits * count].reshape(count, bits)
    return np.asarray(numbers.any(axis=1))
