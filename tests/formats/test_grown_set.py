"""A converted set that grows by reviewed images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from review_sessions import block

from pipeline.formats.grown_set import grown_set, with_known_groups, with_splits
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections, ImageRecord


def record(folder: Path, number: int, name: str, group: str, split: str = "train") -> ImageRecord:
    path = folder / f"{number}.png"
    write_png(path, np.full((48, 64, 3), number, np.uint8))
    return ImageRecord(number, path, name, 48, 64, product="zip", group=group, split=split)


def test_a_reviewed_image_of_the_set_gets_its_new_objects_and_leaves_test(tmp_path: Path) -> None:
    """Images 2 and 3 show one object: both leave test, for what is learned from cannot test."""
    records = (
        record(tmp_path, 1, "a.png", "a"),
        record(tmp_path, 2, "b.png", "bc", "test"),
        record(tmp_path, 3, "c.png", "bc", "test"),
        record(tmp_path, 4, "d.png", "d", "test"),
    )
    base = Dataset(("crack",), records, {2: Detections.from_masks([block(4, 4)], 0)})
    link = tmp_path / "photos" / "other name.png"
    link.parent.mkdir()
    link.hardlink_to(records[1].path)
    new = ImageRecord(9, link, "other name.png", 48, 64)
    reviewed = Dataset(("dent", "crack"), (new,), {9: Detections.from_masks([block(9, 9)], 0)})
    grown, learned = grown_set(base, reviewed)
    written = with_splits(grown, learned)
    assert learned == {1}
    assert written.categories == ("crack", "dent")
    assert written.on(written.records[1]).labels.tolist() == [1]
    assert [(r.file_name, r.split) for r in written.records] == [
        ("train/a.png", "train"), ("train/b.png", "train"), ("train/c.png", "train"),
        ("test/d.png", "test"),
    ]  # fmt: skip


def test_a_new_image_joins_the_group_of_a_known_object_which_keeps_its_name(tmp_path: Path) -> None:
    """The two new images are of the object b; that its joined group is called a changes nothing."""
    base = Dataset(
        ("crack",), (record(tmp_path, 1, "b.png", "b"), record(tmp_path, 2, "c.png", "c"))
    )
    new = tuple(record(tmp_path, n, f"new{n}.png", "", "") for n in (3, 4))
    grown, learned = grown_set(base, Dataset(("crack",), new))
    joined = [replace(r, group="a") if n != 1 else r for n, r in enumerate(grown.records)]
    known = with_known_groups(grown, replace(grown, records=tuple(joined)), 2)
    assert [r.group for r in known.records] == ["b", "c", "b", "b"]
    assert {r.product for r in known.records} == {"zip"}
    assert learned == {2, 3}


def test_two_images_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    base = Dataset(("crack",), (record(tmp_path, 1, "a.png", "a"),))
    new = Dataset(("crack",), (record(tmp_path, 2, "a.jpg", "", ""),))
    written = with_splits(*grown_set(base, new))
    assert [r.file_name for r in written.records] == ["train/a.png", "train/a_2.jpg"]
