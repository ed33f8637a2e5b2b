"""Seeded, stratified splits of groups. MVTec AD has no defects in train, so it needs new splits."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, TypeAdapter

from pipeline.errors import ConfigError, DataError, Faults, escaped
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.types import Dataset, ImageRecord


def _printable(text: str) -> str:
    if escaped(text) != text:
        raise ValueError("should be text without control characters")
    return text


_SPLITS = TypeAdapter(dict[str, Annotated[str, AfterValidator(_printable)]])


def allot(records: Sequence[ImageRecord], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Give each group of records a split, so that the images of each defect are spread by `shares`.

    shares: split name to its fraction. For each defect, every split first gets one group, in the
    order of `shares`; then the split that is furthest below its share gets the next group. A defect
    with fewer groups than splits is only in the first splits. A group with several defects counts
    for its rarest one. Returns {group: split}. The same seed and records give the same splits.
    Raises ConfigError for a negative share, and without a positive one.
    """
    positive = {split: share for split, share in shares.items() if share > 0}
    if not positive or not all(0 <= share < math.inf for share in shares.values()):
        shown = ", ".join(f"{split} {share:g}" for split, share in shares.items())
        raise ConfigError(f"shares must be positive: {shown}")
    count = Counter(record.defect for record in records)
    members: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        members[record.group].append(record)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(members):
        strata[min((r.defect for r in members[group]), key=lambda d: (count[d], d))].append(group)
    generator = np.random.default_rng(seed)
    splits: dict[str, str] = {}
    for defect in sorted(strata):
        groups = [strata[defect][i] for i in generator.permutation(len(strata[defect]))]
        sizes = {group: len(members[group]) for group in groups}
        splits |= _deal(groups, sizes, positive)
    return splits


def _deal(
    groups: Sequence[str], sizes: Mapping[str, int], shares: Mapping[str, float]
) -> dict[str, str]:
    whole = sum(sizes.values()) / sum(shares.values())
    missing = {split: share * whole for split, share in shares.items()}
    empty = list(shares)
    splits = {}
    for group in groups:
        split = empty.pop(0) if empty else max(missing, key=lambda name: missing[name])
        splits[group] = split
        missing[split] -= sizes[group]
    return splits


def assign_splits(dataset: Dataset, shares: Mapping[str, float], seed: int) -> Dataset:
    """The dataset with each record's `split` set. Shares: split name to its fraction."""
    splits = allot(dataset.records, shares, seed)
    records = tuple(replace(record, split=splits[record.group]) for record in dataset.records)
    return replace(dataset, records=records)


def folds(records: Sequence[ImageRecord], count: int, seed: int) -> dict[str, int]:
    """Give each group one of `count` folds, stratified by defect. Returns {group: fold}, with folds
    from 0. Raises ConfigError for fewer than two folds."""
    if count < 2:
        raise ConfigError(f"--folds {count}: at least 2 are needed")
    splits = allot(records, {str(fold): 1.0 for fold in range(count)}, seed)
    return {group: int(fold) for group, fold in splits.items()}


def merge_groups(dataset: Dataset, pairs: Iterable[tuple[int, int]]) -> Dataset:
    """Join the groups of records that show one object. pairs: numbers of two records. The joined
    group has the first of the names, in the order of text."""
    parent = {record.group: record.group for record in dataset.records}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    for one, other in pairs:
        first, last = sorted(root(dataset.records[row].group) for row in (one, other))
        parent[last] = first
    records = tuple(replace(record, group=root(record.group)) for record in dataset.records)
    return replace(dataset, records=records)


def leaks(records: Sequence[ImageRecord]) -> dict[int, tuple[int, ...]]:
    """The numbers of the held-out records whose object is in another split too, each with the
    numbers of the records there.

    Held out are those of the split test, or of val where there is no test.
    """
    splits = {record.split for record in records}
    held_out = "test" if "test" in splits else "val"
    learned: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        if record.split != held_out:
            learned[record.group].append(row)
    return {
        row: tuple(learned[record.group])
        for row, record in enumerate(records)
        if record.split == held_out and record.group in learned
    }


def long_tail(
    rows: NDArray[np.int64], labels: NDArray[np.int64], tail: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    """Random rows: the most frequent category keeps `tail[0]`, the rarest `tail[1]`, and those
    between keep numbers that fall evenly on a logarithmic scale."""
    counts = Counter(labels[rows].tolist())
    order = sorted(counts, key=lambda label: (-counts[label], label))
    sizes = np.geomspace(tail[0], tail[1], max(len(order), 1))
    generator = np.random.default_rng(seed)
    drawn = []
    for label, count in zip(order, sizes, strict=True):
        own = rows[labels[rows] == label]
        drawn.append(generator.permutation(own)[: max(round(count), 1)])
    return np.sort(np.concatenate(drawn))


def write_split(path: Path, dataset: Dataset) -> None:
    """Write the split of each image by its file name in the source, for `--split-file`."""
    write_json(path, {"splits": {_key(record): record.split for record in dataset.records}})


def read_split(path: Path, dataset: Dataset, faults: Faults | None = None) -> Dataset:
    """Set the split of each record from a split file, also of version 0.7, whose key is `parts`.
    Raises DataError for another file, and for an image that the file does not name; `faults` may
    keep going without the image."""
    raw = read_json(path)
    key = "parts" if isinstance(raw, dict) and "parts" in raw else "splits"
    if not isinstance(raw, dict) or not isinstance(raw.get(key), dict):
        raise DataError(path, "is not a split file", "write one with convert-masks")
    splits = checked(_SPLITS, raw[key], path, key)
    records = []
    for record in dataset.records:
        if _key(record) in splits:
            records.append(replace(record, split=splits[_key(record)]))
            continue
        reason = f"does not name {_key(record)}"
        error = DataError(path, reason, "split again without --split-file")
        (faults or Faults()).add(error)
    return replace(dataset, records=tuple(records))


def _key(record: ImageRecord) -> str:
    return f"{record.product}/{record.source_split}/{record.defect}/{record.path.name}"
