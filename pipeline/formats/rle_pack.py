"""Label Studio's brush code, rle-pack (github.com/thi-ng/umbrella, packages/rle-pack).

The code starts with 32 bits for the number of values, 5 bits for the size of a value less 1, and
four times 4 bits for the sizes of run lengths less 1. Blocks follow: 1 bit for a run (1) or
literals (0), 2 bits that select a size of length, the length less 1 in that size, then one value
for a run or `length` values for literals. The values are the RGBA bytes of the image, row by row.

Masks are read and written as runs of pixels along the rows, so that time and memory depend on the
mask, not on its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.patches import Mask, Patch, paste, tight

Numbers = NDArray[np.int64]
_SIZES = np.array([3, 4, 8, 16])  # bits of a run's length
_MAX_RUN = 1 << 16
_HEAD = 53  # bits before the first block
_CHUNK = 1 << 16  # blocks packed at a time
_FEW = 64  # blocks of literals read at a time, of at most 2^16 values each
_CHANNELS, _ALPHA = 4, 3  # values of a pixel; the one that says whether it is drawn
_WINDOW = 5  # bytes that hold any 32 bits


def encode_brush(mask: Mask) -> list[int]:
    """A mask (H, W) as rle-pack bytes. All four channels of a pixel are 0 or 255."""
    return encode_brush_patch(tight(mask), *mask.shape)


def encode_brush_patch(patch: Patch, height: int, width: int) -> list[int]:
    """As `encode_brush`, for a patch inside an image (height, width)."""
    edges = _edges(patch, width)
    lengths = np.diff(np.concatenate([[0], edges, [height * width]])) * _CHANNELS
    is_drawn = np.arange(len(lengths)) % 2 == 1
    is_drawn, lengths = is_drawn[lengths > 0], lengths[lengths > 0]
    blocks = -(-lengths // _MAX_RUN)  # a run of more takes several
    steps = np.full(int(blocks.sum()), _MAX_RUN)
    steps[np.cumsum(blocks) - 1] = lengths - (blocks - 1) * _MAX_RUN
    values = np.repeat(is_drawn, blocks).astype(np.int64) * 255
    count = height * width * _CHANNELS
    head = f"{count:032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    bits = [np.frombuffer(head.encode(), dtype=np.uint8) - ord("0")]
    bits += [
        _block_bits(steps[start : start + _CHUNK], values[start : start + _CHUNK])
        for start in range(0, len(steps), _CHUNK)
    ]
    code: list[int] = np.packbits(np.concatenate(bits)).tolist()
    return code


def _edges(patch: Patch, width: int) -> Numbers:
    """The pixels of an image, counted along its rows, where runs of the patch start and end,
    alternately."""
    rows, columns = patch.pixels.shape
    padded = np.zeros((rows, columns + 1), dtype=bool)  # background ends each row
    padded[:, :columns] = patch.pixels
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        edges = np.concatenate([[0], edges])
    row, column = np.divmod(edges, columns + 1)
    places = (patch.y + row) * width + patch.x + column
    joined = np.flatnonzero(places[1:-1:2] == places[2::2]) * 2 + 1  # runs over several rows
    return np.delete(places, np.concatenate([joined, joined + 1]))


def _block_bits(steps: Numbers, values: Numbers) -> NDArray[np.uint8]:
    """The bits of runs: a 1, the index of the size, the length less 1, the value."""
    choice = np.searchsorted(1 << _SIZES, steps)
    sizes = _SIZES[choice]
    codes = (((4 | choice) << sizes) | (steps - 1)) << 8 | values
    widths = 3 + sizes + 8
    aligned = (codes << (32 - widths)).astype(">u4")
    bits = np.unpackbits(aligned.view(np.uint8).reshape(-1, 4), axis=1)
    return np.asarray(bits[np.arange(32) < widths[:, None]])


def decode_brush(data: Sequence[int], height: int, width: int) -> Mask:
    """The mask (H, W) of rle-pack bytes: the pixels whose alpha is not 0. Raises ValueError for
    faulty code."""
    return paste(decode_brush_patch(bytes(data), height, width), height, width)


def decode_brush_patch(code: bytes, height: int, width: int) -> Patch:
    """As `decode_brush`. The number of values is checked before memory is allocated."""
    padded = np.frombuffer(code + bytes(_WINDOW), dtype=np.uint8)
    count, value_size = _head(padded, 8 * len(code))
    if count != height * width * _CHANNELS:
        raise ValueError(f"a brush of {count} values on an image of {width}x{height}")
    blocks = _blocks(code, count, value_size)
    run = blocks.is_run
    drawn = np.zeros(len(run), dtype=bool)
    drawn[run] = _numbers(padded, blocks.at[run], value_size) > 0
    starts, ends = blocks.start[drawn], blocks.end[drawn]
    literals = np.flatnonzero(~run)
    parts = [literals[at : at + _FEW] for at in range(0, len(literals), _FEW)]
    pixels = [_literal_pixels(padded, blocks, part, value_size) for part in parts]
    single = np.concatenate([np.zeros(0, dtype=np.int64), *pixels])
    starts = np.concatenate([starts // _CHANNELS, single])
    ends = np.concatenate([ends // _CHANNELS, single + 1])
    return _patch_of_runs(starts[starts < ends], ends[starts < ends], width)


class _Blocks(NamedTuple):
    """Blocks of a code. start, end: the values that each gives. at: the bit of its first value."""

    is_run: NDArray[np.bool_]
    start: Numbers
    end: Numbers
    at: Numbers


def _head(padded: NDArray[np.uint8], bits: int) -> tuple[int, int]:
    """The number of values and the size of a value in bits."""
    if bits < _HEAD:
        raise ValueError("a brush ends in its head")
    count, size = _numbers(padded, np.array([0]), 32), _numbers(padded, np.array([32]), 5)
    return int(count[0]), int(size[0]) + 1


def _blocks(code: bytes, count: int, value_size: int) -> _Blocks:
    """The blocks of a code of `count` values. Where a block starts depends on all before, so they
    are found one by one; their values are read later, all at once."""
    head = int.from_bytes(code[:7], "big") >> 3  # 53 bits
    sizes = [(head >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    padded, last = code + bytes(_WINDOW), 8 * len(code)
    kinds, ends, places = [], [], []
    at, place = _HEAD, 0
    while place < count:
        window = int.from_bytes(padded[at >> 3 : (at >> 3) + 4], "big") << (at & 7)
        kind = window >> 29 & 7
        size = sizes[kind & 3]
        length = (window >> (29 - size) & ((1 << size) - 1)) + 1
        at += 3 + size
        place += length
        kinds.append(kind)
        ends.append(place)
        places.append(at)
        at += value_size if kind & 4 else value_size * length
        if at > last:
            raise ValueError("a brush ends in the middle of a block")
    if place > count:
        raise ValueError("a brush has a run past the end of the image")
    end = np.array(ends, dtype=np.int64)
    start = np.concatenate([[0], end[:-1]]).astype(np.int64)
    is_run = np.array(kinds, dtype=np.int64) >= 4
    return _Blocks(is_run, start, end, np.array(places, dtype=np.int64))


def _literal_pixels(
    padded: NDArray[np.uint8], blocks: _Blocks, rows: Numbers, value_size: int
) -> Numbers:
    """The drawn pixels whose alpha is a literal of the blocks `rows`."""
    first, after = blocks.start[rows] // _CHANNELS, blocks.end[rows] // _CHANNELS
    counts = after - first
    total = np.cumsum(counts)
    index = np.arange(int(total[-1])) - np.repeat(total - counts, counts)
    pixels = np.repeat(first, counts) + index
    value = pixels * _CHANNELS + _ALPHA - np.repeat(blocks.start[rows], counts)
    alpha = _numbers(padded, np.repeat(blocks.at[rows], counts) + value * value_size, value_size)
    return np.asarray(pixels[alpha > 0])


def _numbers(padded: NDArray[np.uint8], at: Numbers, size: int) -> Numbers:
    """The numbers of `size` bits, at most 32, that start at the bits `at`."""
    window = np.zeros(len(at), dtype=np.int64)
    for byte in range(_WINDOW):
        window = window << 8 | padded[(at >> 3) + byte]
    return np.asarray(window >> (8 * _WINDOW - size - (at & 7)) & ((1 << size) - 1))


def _patch_of_runs(starts: Numbers, ends: Numbers, width: int) -> Patch:
    """The patch of runs of pixels that are counted along the rows of an image."""
    if not len(starts):
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    top, bottom = int(starts.min()) // width, (int(ends.max()) - 1) // width + 1
    left, right = 0, width
    if (starts // width == (ends - 1) // width).all():  # else a run goes on in the next row
        left, right = int((starts % width).min()), int(((ends - 1) % width).max()) + 1
    columns = right - left
    step = columns + (columns < width)  # a column of background ends each row
    changes = np.zeros((bottom - top) * step + 1, dtype=np.int8)
    for at, change in ((starts, 1), (ends - 1, -1)):
        place = (at // width - top) * step + at % width - left + (change < 0)
        np.add.at(changes, place, np.int8(change))
    pixels = np.cumsum(changes[:-1], dtype=np.int8).reshape(-1, step)[:, :columns]
    return tight(np.ascontiguousarray(pixels).view(bool), left, top)
