"""Annotations that wait for the others of their image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from pipeline.formats.coco_schema import CocoRow
from pipeline.formats.packed_rows import PackedRows
from pipeline.geometry.masks import Rle

ROW: dict[str, Any] = {
    "id": 2**63 - 1, "image_id": "ü", "category_id": 1, "bbox": (0.1, -0.0, 1e300, 3),
    "iscrowd": True, "attributes": {"a": [1, None, "\ud800"], "b": {}}, "more": float("inf"),
}  # fmt: skip


def row_of(**values: Any) -> CocoRow:
    return cast(CocoRow, values)


@pytest.mark.parametrize(
    ("added", "images", "expected"),
    [
        ([], [], []),
        ([], [3, 1], []),
        ([7], [3, 7, 1], [(1, [0])]),
        ([3, 1, 3, 9], [1, 2, 3], [(0, [1]), (2, [0, 2])]),
        ([-5, 2**62, -5], [2**62, -5], [(0, [1]), (1, [0, 2])]),
    ],
)
def test_annotations_come_back_by_image_in_their_order(
    added: Sequence[int], images: Sequence[int], expected: list[tuple[int, list[int]]]
) -> None:
    packed = PackedRows()
    for number, image in enumerate(added):
        packed.add(image, row_of(image_id=image, category_id=1, id=number))
    found = [(place, [row["id"] for row in rows]) for place, rows in packed.by_image(images)]
    assert found == expected


@pytest.mark.parametrize("mask", [{}, {"segmentation": None}, {"segmentation": []}])
def test_every_value_comes_back_as_it_was(mask: dict[str, Any]) -> None:
    packed = PackedRows()
    packed.add(1, row_of(**ROW, **mask))
    ((_, (row,)),) = packed.by_image([1])
    known: dict[str, Any] = {**ROW, **mask, "segmentation": mask.get("segmentation")}
    assert {**row, "segmentation": row.get("segmentation")} == known
    assert {key: type(value) for key, value in row.items() if key in ROW} == {
        key: type(value) for key, value in ROW.items()
    }


def test_a_mask_stays_the_same_object() -> None:
    """Masks of one batch share their size, which a copy would not."""
    packed, mask = PackedRows(), Rle(size=[4, 5], counts=b"0")
    packed.add(1, row_of(image_id=1, category_id=1, segmentation=mask))
    ((_, (row,)),) = packed.by_image([1])
    assert row["segmentation"] is mask
