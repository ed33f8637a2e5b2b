from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, DataError
from pipeline.splits import allot, assign_splits, folds, read_split, write_split
from pipeline.types import Dataset, ImageRecord

SHARES = {"train": 0.6, "test": 0.2, "val": 0.2}


def record(number: int, defect: str, group: str = "") -> ImageRecord:
    name = f"{number:03d}.png"
    return ImageRecord(
        number, Path(name), name, 8, 8, "p", "test", defect, group=group or f"{defect}{number}"
    )


def records(**counts: int) -> list[ImageRecord]:
    defects = [defect for defect, count in counts.items() for _ in range(count)]
    return [record(number + 1, defect) for number, defect in enumerate(defects)]


def test_no_records_are_split_into_nothing() -> None:
    assert allot([], SHARES, seed=0) == {}


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"train": 1}),
        (2, {"train": 1, "test": 1}),
        (3, {"train": 1, "test": 1, "val": 1}),
        (10, {"train": 6, "test": 2, "val": 2}),
        (100, {"train": 60, "test": 20, "val": 20}),
    ],
)
def test_each_defect_is_in_every_split_before_shares_count(
    count: int, expected: dict[str, int]
) -> None:
    splits = allot(records(crack=count, good=30), SHARES, seed=1)
    found = Counter(split for group, split in splits.items() if group.startswith("crack"))
    assert found == expected
    assert Counter(p for g, p in splits.items() if g.startswith("good")) == {
        "train": 18,
        "test": 6,
        "val": 6,
    }


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), max_size=40), st.integers(0, 9)
)
def test_pictures_of_one_object_never_straddle_a_split(
    rows: list[tuple[str, int]], seed: int
) -> None:
    listed = [record(i + 1, defect, f"object{group}") for i, (defect, group) in enumerate(rows)]
    dataset = assign_splits(Dataset(("a", "b"), tuple(listed)), SHARES, seed)
    splits: dict[str, set[str]] = {}
    for one in dataset.records:
        splits.setdefault(one.group, set()).add(one.split)
    assert all(len(found) == 1 for found in splits.values())


def test_the_seed_decides_and_nothing_else_does() -> None:
    listed = records(crack=20)
    assert allot(listed, SHARES, 3) == allot(listed[::-1], SHARES, 3)
    assert allot(listed, SHARES, 3) != allot(listed, SHARES, 4)


def test_folds_share_each_defect_evenly() -> None:
    found = folds(records(crack=10, stain=5), 5, seed=0)
    assert Counter((g[:5], f) for g, f in found.items()) == {
        (defect, fold): count for defect, count in (("crack", 2), ("stain", 1)) for fold in range(5)
    }
    with pytest.raises(ConfigError, match="at least 2"):
        folds(records(crack=4), 1, seed=0)


def test_shares_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        allot(records(crack=3), {"train": -0.2, "val": 1.2}, seed=0)


def test_a_split_file_is_reused_and_must_name_every_image(tmp_path: Path) -> None:
    dataset = assign_splits(Dataset(("crack",), tuple(records(crack=9))), SHARES, seed=5)
    write_split(tmp_path / "split.json", dataset)
    assert read_split(tmp_path / "split.json", dataset) == dataset
    longer = Dataset(("crack",), (*dataset.records, record(99, "crack")))
    with pytest.raises(DataError, match=r"does not name p/test/crack/099\.png"):
        read_split(tmp_path / "split.json", longer)
