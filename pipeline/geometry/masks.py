"""Masks as (H, W) bool, and RLE as pycocotools writes it: the truth for pixels everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.geometry import patches
from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.patches import Mask, Patch

Runs = NDArray[np.int64]
_LONGEST_RUN = 7  # characters of one count: 35 bits
_ALPHABET = bytes(range(48, 112))  # of compressed runs; from 80 on, a count goes on
_GOING_ON = bytes(b"+"[0] if 80 <= code < 112 else b"."[0] for code in range(256))


class Rle(TypedDict):
    """COCO's compressed run-length encoding: `size` is [height, width]."""

    size: list[int]
    counts: bytes


def encode(mask: Mask) -> Rle:
    """Encode a mask (H, W) without any loss."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(size=[int(side) for side in rle["size"]], counts=rle["counts"])


def decode(rle: Rle) -> Mask:
    """Decode an RLE to (H, W) bool."""
    return np.asarray(coco_mask.decode(rle), dtype=bool)


def encode_patches(found: Sequence[Patch], height: int, width: int) -> list[Rle]:
    """Encode instances that lie inside the image: pycocotools' very bytes, without its full frames.

    COCO counts runs column by column, and writes each count (from the fourth on, its difference to
    the count before the last) as 5-bit groups, lowest first, from the character `0` up
    (maskApi.c: rleEncode, rleToString).
    """
    if not found:
        return []
    runs = [_runs(patch, height) for patch in found]
    sizes = np.array([len(edges) + 1 for edges in runs])
    first = np.concatenate([[0], np.cumsum(sizes)])
    ends = np.concatenate([part for edges in runs for part in (edges, [height * width])])
    starts = np.concatenate([[0], ends[:-1]])
    starts[first[:-1]] = 0
    counts = ends - starts
    place = np.arange(len(counts)) - np.repeat(first[:-1], sizes)
    values = counts.copy()
    late = np.flatnonzero(place > 2)
    values[late] -= counts[late - 2]
    unwritten = (counts == 0) & (place > 0)  # nothing follows a run that ends with the image
    text, lengths = _characters(values, unwritten)
    stops = np.cumsum(np.add.reduceat(lengths, first[:-1])).tolist()
    pieces = zip([0, *stops[:-1]], stops, strict=True)
    return [Rle(size=[height, width], counts=text[start:stop]) for start, stop in pieces]


def _runs(patch: Patch, height: int) -> Runs:
    """Where pixels start and end, alternately, counted down the image's columns."""
    rows, columns = patch.pixels.shape
    turned = np.zeros((columns, rows + 1), dtype=bool)  # a row of background ends each column
    turned[:, :rows] = patch.pixels.T
    flat = turned.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        edges = np.concatenate([[0], edges])
    column, row = np.divmod(edges, rows + 1)
    found = (patch.x + column) * height + patch.y + row
    if rows < height:
        return np.asarray(found)
    joined = np.flatnonzero(found[1:-1:2] == found[2::2]) * 2 + 1  # on from column to column
    return np.delete(found, np.concatenate([joined, joined + 1]))


def _characters(values: Runs, unwritten: Mask) -> tuple[bytes, Runs]:
    """The text of all values, and how many characters each takes; none where `unwritten`."""
    shifts = np.arange(0, max(int(np.abs(values).max()).bit_length() + 5, 5), 5)
    rest = values[:, None] >> (shifts + 4)
    more = (rest != 0) & (rest != -1)
    lengths = np.where(unwritten, 0, 1 + more.sum(axis=1))
    groups = ((values[:, None] >> shifts) & 31) + 32 * more + 48
    written = np.arange(len(shifts)) < lengths[:, None]
    return groups[written].astype(np.uint8).tobytes(), lengths


def instances(
    mask: Mask, merge: bool = False, min_area: int = 0, bridge_gap: int = 0
) -> tuple[list[Rle], int]:
    """A defect mask's instances as RLE, and how many specks were left out; see
    `patches.split_instances`."""
    found, dropped = patches.split_instances(mask, merge, min_area, bridge_gap)
    return encode_patches(found, *mask.shape), dropped


def to_patch(rle: Rle) -> Patch:
    """An RLE's pixels, cut to where they are: `decode` without the full frame."""
    height = rle["size"][0]
    bounds = np.cumsum(_counts(rle["counts"]))
    starts, ends = bounds[0:-1:2], bounds[1::2]
    if not (ends > starts).any():
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    starts, ends = starts[ends > starts], ends[ends > starts]
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    if (starts // height != (ends - 1) // height).any():  # a run goes on in the next column
        top, bottom = 0, height
    rows, columns = bottom - top, right - left
    step = rows + (rows < height)  # a row of background ends each column
    edges = np.zeros(columns * step + 1, dtype=np.int8)
    for at, change in ((starts, 1), (ends - 1, -1)):
        place = (at // height - left) * step + at % height - top + (change < 0)
        np.add.at(edges, place, np.int8(change))
    turned = np.cumsum(edges[:-1], dtype=np.int8).reshape(columns, step)[:, :rows]
    return Patch(left, top, np.ascontiguousarray(turned.T).view(bool))


def check_runs(text: bytes, height: int, width: int) -> None:
    """Raises ValueError for text that is no compressed runs, and for runs that do not cover the
    frame (height, width) exactly; pycocotools reads and draws such in silence."""
    if text.translate(None, _ALPHABET):
        raise ValueError("a mask's counts are not COCO's compressed runs")
    going_on = text.translate(_GOING_ON)
    if b"+" * _LONGEST_RUN in going_on:
        raise ValueError("a mask's counts hold a run longer than any image")
    ended = going_on.endswith(b".")
    counts = _counts(text) if ended else np.zeros(0, dtype=np.int64)
    if (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(f"a mask's runs cover {counts.sum()} pixels of {width}x{height}")


def _counts(text: bytes) -> Runs:
    """The run lengths that COCO's text stands for (maskApi.c: rleFrString)."""
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((codes & 31) << (5 * place), first)
    negative = (codes[last] & 16) != 0
    values -= np.where(negative, 1 << (5 * (last - first + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return np.asarray(values)


def union(rles: Sequence[Rle], height: int, width: int) -> Mask:
    """The pixels (height, width) of any of the masks."""
    drawn = np.zeros((height, width), bool)
    for rle in rles:
        drawn |= decode(rle)
    return drawn


def area(rle: Rle) -> int:
    """Number of pixels."""
    return int(coco_mask.area(rle))


def bounding_boxes(rles: Sequence[Rle]) -> Boxes:
    """(N, 4) half-open xyxy boxes; an empty mask has the box (0, 0, 0, 0)."""
    if not rles:
        return as_boxes([])
    boxes = coco_mask.toBbox(list(rles))
    boxes[:, 2:] += boxes[:, :2]
    return as_boxes(boxes)


def iou(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """(N, M) intersection over union by pycocotools; (N, M) zeros where either is empty."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return np.asarray(coco_mask.iou(list(first), list(second), [0] * len(second)))


def paired_iou(first: Rle, second: Rle) -> float:
    """IoU of two masks; two empty masks agree perfectly (1.0)."""
    if area(first) == 0 and area(second) == 0:
        return 1.0
    return float(iou([first], [second])[0, 0])


def from_box(box: NDArray[np.float32], height: int, width: int) -> Rle:
    """The mask of a box filled in: pixels whose centre lies inside it."""
    x0, y0, x1, y1 = np.clip(np.ceil(box - 0.5), 0, [width, height, width, height]).astype(int)
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return encode(mask)


def boundary_iou(first: Rle, second: Rle, width_ratio: float = 0.02) -> float:
    """Boundary IoU of two masks of one image; two empty masks agree perfectly (1.0)."""
    height, width = first["size"]
    whole = (Patch(0, 0, decode(rle)) for rle in (first, second))
    one, two = (patches.boundary(patch, height, width, width_ratio) for patch in whole)
    union = int((one | two).sum())
    return float((one & two).sum() / union) if union else 1.0
