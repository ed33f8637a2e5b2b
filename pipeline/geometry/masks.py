"""Masks as (H, W) bool, and as RLE in the encoding of pycocotools, which loses no pixel."""

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
_ALPHABET = bytes(range(48, 112))  # of compressed runs; from 80 on, the count continues
_CONTINUES = bytes(b"+"[0] if 80 <= code < 112 else b"."[0] for code in range(256))


class Rle(TypedDict):
    """COCO's compressed run-length encoding: `size` is [height, width]."""

    size: list[int]
    counts: bytes


def encode(mask: Mask) -> Rle:
    """Encode a mask (H, W). Nothing is lost."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(size=[int(side) for side in rle["size"]], counts=rle["counts"])


def decode(rle: Rle) -> Mask:
    """Decode an RLE to (H, W) bool."""
    return np.asarray(coco_mask.decode(rle), dtype=bool)


def encode_patches(instance_patches: Sequence[Patch], height: int, width: int) -> list[Rle]:
    """Encode instances inside an image (height, width). The bytes are those of pycocotools, but no
    mask of the whole image is made.

    COCO counts runs column by column, and writes each count as 5-bit groups, lowest first, from the
    character `0` up. From the fourth count on, it writes the difference to the count two places
    before (maskApi.c: rleEncode, rleToString).
    """
    if not instance_patches:
        return []
    runs = [_runs(patch, height) for patch in instance_patches]
    sizes = np.array([len(edges) + 1 for edges in runs])
    first = np.concatenate([[0], np.cumsum(sizes)])
    ends = np.concatenate([piece for edges in runs for piece in (edges, [height * width])])
    starts = np.concatenate([[0], ends[:-1]])
    starts[first[:-1]] = 0
    counts = ends - starts
    place = np.arange(len(counts)) - np.repeat(first[:-1], sizes)
    values = counts.copy()
    late = np.flatnonzero(place > 2)
    values[late] -= counts[late - 2]
    unwritten = (counts == 0) & (place > 0)  # after a run that ends with the image
    text, lengths = _characters(values, unwritten)
    stops = np.cumsum(np.add.reduceat(lengths, first[:-1])).tolist()
    pieces = zip([0, *stops[:-1]], stops, strict=True)
    return [Rle(size=[height, width], counts=text[start:stop]) for start, stop in pieces]


def _runs(patch: Patch, height: int) -> Runs:
    """The places where runs of pixels start and end, alternately, counted down the columns of the
    image."""
    rows, columns = patch.pixels.shape
    transposed = np.zeros((columns, rows + 1), dtype=bool)  # background ends each column
    transposed[:, :rows] = patch.pixels.T
    flat = transposed.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        edges = np.concatenate([[0], edges])
    column, row = np.divmod(edges, rows + 1)
    places = (patch.x + column) * height + patch.y + row
    if rows < height:
        return np.asarray(places)
    joined = np.flatnonzero(places[1:-1:2] == places[2::2]) * 2 + 1  # runs over several columns
    return np.delete(places, np.concatenate([joined, joined + 1]))


def _characters(values: Runs, unwritten: Mask) -> tuple[bytes, Runs]:
    """The text of all values, and the number of characters of each: 0 where `unwritten`."""
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
    """The instances of a defect mask (H, W) as RLE, and the number of specks that were left out;
    see `patches.split_instances`."""
    split, dropped = patches.split_instances(mask, merge, min_area, bridge_gap)
    return encode_patches(split, *mask.shape), dropped


def to_patch(rle: Rle) -> Patch:
    """The pixels of an RLE in their bounding box: like `decode`, without a mask of the whole
    image."""
    height = rle["size"][0]
    bounds = np.cumsum(_counts(rle["counts"]))
    starts, ends = bounds[0:-1:2], bounds[1::2]
    if not (ends > starts).any():
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    starts, ends = starts[ends > starts], ends[ends > starts]
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    top, bottom = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    if (starts // height != (ends - 1) // height).any():  # a run continues in the next column
        top, bottom = 0, height
    rows, columns = bottom - top, right - left
    step = rows + (rows < height)  # a row of background ends each column
    edges = np.zeros(columns * step + 1, dtype=np.int8)
    for at, change in ((starts, 1), (ends - 1, -1)):
        place = (at // height - left) * step + at % height - top + (change < 0)
        np.add.at(edges, place, np.int8(change))
    transposed = np.cumsum(edges[:-1], dtype=np.int8).reshape(columns, step)[:, :rows]
    return Patch(left, top, np.ascontiguousarray(transposed.T).view(bool))


def check_runs(text: bytes, height: int, width: int) -> None:
    """Raise ValueError for text that is not compressed runs, and for runs that do not cover an
    image (height, width) exactly. pycocotools reads and draws both without an error."""
    if text.translate(None, _ALPHABET):
        raise ValueError("a mask's counts are not COCO's compressed runs")
    continues = text.translate(_CONTINUES)
    if b"+" * _LONGEST_RUN in continues:
        raise ValueError("a mask's counts hold a run longer than any image")
    ended = continues.endswith(b".")
    counts = _counts(text) if ended else np.zeros(0, dtype=np.int64)
    if (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(f"a mask's runs cover {counts.sum()} pixels of {width}x{height}")


def _counts(text: bytes) -> Runs:
    """The run lengths in COCO's text (maskApi.c: rleFrString)."""
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
    """The pixels (height, width) that are in at least one of the masks."""
    drawn = np.zeros((height, width), bool)
    for rle in rles:
        drawn |= decode(rle)
    return drawn


def merged(rles: Sequence[Rle], intersect: bool = False) -> Rle | None:
    """The pixels in at least one of the masks, or with `intersect` in all, as RLE; None for no
    mask. Time does not grow with the image."""
    return coco_mask.merge(list(rles), intersect) if rles else None


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
    """(N, M) intersection over union in [0, 1], by pycocotools; zeros for empty masks."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return np.asarray(coco_mask.iou(list(first), list(second), [0] * len(second)))


def paired_iou(first: Rle, second: Rle) -> float:
    """IoU of two masks in [0, 1]; 1 for two empty masks."""
    if area(first) == 0 and area(second) == 0:
        return 1.0
    return float(iou([first], [second])[0, 0])


def from_box(box: NDArray[np.float32], height: int, width: int) -> Rle:
    """The mask of a filled box (4,) xyxy: the pixels whose centre is inside it."""
    sides = np.clip(np.ceil(box - 0.5), 0, [width, height, width, height]).astype(int)
    x0, y0, x1, y1 = (int(side) for side in sides)
    inside = np.ones((max(y1 - y0, 0), max(x1 - x0, 0)), dtype=bool)
    return encode_patches([Patch(x0, y0, inside)], height, width)[0]


def boundary_iou(first: Rle, second: Rle, width_ratio: float = 0.02) -> float:
    """Boundary IoU of two masks of one image in [0, 1]; 1 for two empty masks. See
    `patches.boundary`."""
    height, width = first["size"]
    whole = (Patch(0, 0, decode(rle)) for rle in (first, second))
    one, two = (patches.boundary(patch, height, width, width_ratio) for patch in whole)
    union = int((one | two).sum())
    return float((one & two).sum() / union) if union else 1.0
