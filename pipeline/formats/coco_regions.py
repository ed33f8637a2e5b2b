"""Which annotations of an image are a region inside it: what is outside is clipped, what has no
pixel is left out, and all is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.formats.coco_schema import CocoRow
from pipeline.formats.image_objects import ROUNDED
from pipeline.formats.source import SourceLog
from pipeline.geometry.boxes import Boxes, as_boxes, clip, xywh_to_xyxy, xyxy_to_xywh
from pipeline.geometry.masks import Rle, bounding_boxes, from_box

_NO_PIXEL = "it covers no pixel of the image"


def regions(
    rows: Sequence[CocoRow], size: tuple[int, int], log: SourceLog, converted: int
) -> list[CocoRow]:
    """The annotations of an image (height, width) that are a region inside it. Their segmentations
    are RLE.

    Boxes are clipped, and those among masks become filled masks. Left out are masks without a
    pixel, but for those that this pipeline marks as failed, and boxes without an area. converted:
    how many were counted already, as another shape.
    """
    kept = _with_pixels(rows, log)
    _note_crowds(kept, log)
    boxes = [row for row in kept if not row.get("segmentation")]
    if len(boxes) < len(kept):
        filled = {id(row) for row in boxes if not _fill(row, size, log)}
        kept = [row for row in kept if id(row) not in filled]
        log.read(len(kept) - converted - (len(boxes) - len(filled)))
        _clip_beside_masks(kept, size, log)
        return kept
    return _clip(kept, size, log)


def where_of(row: CocoRow) -> str:
    """The place of an annotation for a message."""
    return f"image {row['image_id']} annotation {row.get('id')}"


def _with_pixels(rows: Sequence[CocoRow], log: SourceLog) -> list[CocoRow]:
    """The annotations without those whose mask is empty."""
    masks = [cast(Rle, row["segmentation"]) for row in rows if row.get("segmentation")]
    if not masks or (coco_mask.area(masks) > 0).all():
        return [*rows]
    kept: list[CocoRow] = []
    for row in rows:
        mask = row.get("segmentation")
        failed = cast(dict[str, object], row).get("failed") is True
        if not mask or failed or coco_mask.area(cast(Rle, mask)):
            kept.append(row)
        else:
            log.leave_out("mask", _NO_PIXEL, where_of(row))
    return kept


def _note_crowds(rows: Sequence[CocoRow], log: SourceLog) -> None:
    for row in rows:
        if row.get("iscrowd") == 1:
            log.note("iscrowd 1 is read as an object, and written as iscrowd 0", where_of(row))


def _fill(row: CocoRow, size: tuple[int, int], log: SourceLog) -> bool:
    """Give a box its filled mask; returns whether that has any pixel."""
    box = _upright(_corners([row]))[0]
    mask = from_box(box, *size)
    if not coco_mask.area(mask):
        log.leave_out("box", _NO_PIXEL, where_of(row))
        return False
    row["segmentation"] = mask
    log.convert("box among masks", "filled mask")
    _set_box(row, clip(box[None], *size))
    return True


def _clip(rows: list[CocoRow], size: tuple[int, int], log: SourceLog) -> list[CocoRow]:
    """Boxes with their low corner first, clipped to the image; those without an area are left
    out."""
    if not rows:
        return rows
    stated = _corners(rows)
    upright = _upright(stated)
    clipped = clip(upright, *size)
    if np.array_equal(stated, clipped) and (clipped[:, :2] < clipped[:, 2:]).all():
        log.read(len(rows))  # the common case
        return rows
    moved = np.abs(clipped - stated).max(axis=1)
    is_upright = (stated == upright).all(axis=1)
    kept: list[CocoRow] = []
    for number, row in enumerate(rows):
        box = clipped[number]
        if box[0] >= box[2] or box[1] >= box[3]:
            log.leave_out("box", "it has no area inside the image", where_of(row))
            continue
        kept.append(row)
        if not is_upright[number]:
            log.convert("box", "box with its corners swapped back")
        elif moved[number] > ROUNDED:
            log.convert("box", "box clipped to the image")
        else:
            log.read()
        if moved[number]:
            _set_box(row, box[None])
    return kept


def _clip_beside_masks(rows: list[CocoRow], size: tuple[int, int], log: SourceLog) -> None:
    """Clip the boxes of masks. A box without an area, or that does not touch its mask, is that of
    the mask."""
    rows = [row for row in rows if row.get("bbox")]
    if not rows:
        return
    stated = _corners(rows)
    clipped = clip(stated, *size)
    flat = np.asarray((clipped[:, :2] >= clipped[:, 2:]).any(axis=1))
    moved = np.abs(clipped - stated).max(axis=1)
    apart = _apart(clipped, rows)
    for number in np.flatnonzero(flat | apart | (moved > 0)):
        row = rows[number]
        if flat[number] or apart[number]:
            row["bbox"] = None
            kind = "without an area" if flat[number] else "that do not touch their masks"
            log.note(f"boxes {kind} are those of their masks", where_of(row))
            continue
        if moved[number] > ROUNDED:
            log.note("boxes of masks are clipped to the image", where_of(row))
        _set_box(row, clipped[number][None])


def _apart(boxes: Boxes, rows: Sequence[CocoRow]) -> NDArray[np.bool_]:
    """Whether each box has no pixel of the box of its mask. A mask without a pixel is nowhere."""
    own = bounding_boxes([cast(Rle, row["segmentation"]) for row in rows])
    low, high = np.maximum(boxes[:, :2], own[:, :2]), np.minimum(boxes[:, 2:], own[:, 2:])
    is_empty = (own[:, :2] >= own[:, 2:]).any(axis=1)
    return np.asarray((low >= high).any(axis=1) & ~is_empty)


def _corners(rows: Sequence[CocoRow]) -> Boxes:
    return xywh_to_xyxy(as_boxes([row.get("bbox") or (0, 0, 0, 0) for row in rows]))


def _upright(boxes: Boxes) -> Boxes:
    """Boxes with their low corner first."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate([low, high], axis=1)


def _set_box(row: CocoRow, box: Boxes) -> None:
    x, y, width, height = xyxy_to_xywh(box)[0].tolist()
    row["bbox"] = (x, y, width, height)
