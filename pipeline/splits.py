"""Seeded, stratified, grouped splits. MVTec AD has no defects in train, so it must be cut anew."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, TypeAdapter

from pipeline.errors import ConfigError, DataError, one_line
from pipeline.io.read import checked, read_json
from pipeline.io.write import write_json
from pipeline.types import Dataset, ImageRecord


def _printable(text: str) -> str:
    if one_line(text) != text:
        raise ValueError("should be text without control characters")
    return text


_SPLITS = TypeAdapter(dict[str, Annotated[str, AfterValidator(_printable)]])


def allot(records: Sequence[ImageRecord], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Give each group of records a split, so that every defect kind is spread by `shares`.

    Within a kind, each split first gets one group in the order of `shares`, then the split that
    lacks most for its share gets the next; a kind with fewer groups than splits reaches the first
    ones only. The kind of a mixed group is its rarest. Returns {group: split}; the same seed and
    records give the same splits. Raises ConfigError for a negative share, and for none that is
    positive.
    """
    wanted = {split: share for split, share in shares.items() if share > 0}
    if not wanted or not all(0 <= share < math.inf for share in shares.values()):
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
        splits |= _deal(groups, sizes, wanted)
    return splits


def _deal(
    groups: Sequence[str], sizes: Mapping[str, int], shares: Mapping[str, float]
) -> dict[str, str]:
    whole = sum(sizes.values()) / sum(shares.values())
    lacking = {split: share * whole for split, share in shares.items()}
    unserved = list(shares)
    splits = {}
    for group in groups:
        split = unserved.pop(0) if unserved else max(lacking, key=lambda name: lacking[name])
        splits[group] = split
        lacking[split] -= sizes[group]
    return splits


def assign_splits(dataset: Dataset, shares: Mapping[str, float], seed: int) -> Dataset:
    """The dataset with each record's `split` set. Shares: split name to its fraction."""
    splits = allot(dataset.records, shares, seed)
    records = tuple(replace(record, split=splits[record.group]) for record in dataset.records)
    return replace(dataset, records=records)


def folds(records: Sequence[ImageRecord], count: int, seed: int) -> dict[str, int]:
    """Give each group one of `count` folds, stratified by defect. Returns {group: fold from 0}."""
    if count < 2:
        raise ConfigError(f"--folds {count}: at least 2 are needed")
    splits = allot(records, {str(fold): 1.0 for fold in range(count)}, seed)
    return {group: int(fold) for group, fold in splits.items()}


def write_split(path: Path, dataset: Dataset) -> None:
    """Write {file name in the source: split}, to be reused with `--split-file`."""
    write_json(path, {"splits": {_key(record): record.split for record in dataset.records}})


def read_split(path: Path, dataset: Dataset) -> Dataset:
    """Set each record's split from a split file (of 0.7 too, which says "parts"). Raises DataError
    for what is no split file, and for an image it does not name."""
    raw = read_json(path)
    key = "parts" if isinstance(raw, dict) and "parts" in raw else "splits"
    if not isinstance(raw, dict) or not isinstance(raw.get(key), dict):
        raise DataError(path, "is not a split file", "write one with convert-masks")
    splits = checked(_SPLITS, raw[key], path, key)
    for record in dataset.records:
        if _key(record) not in splits:
            reason = f"does not name {_key(record)}"
            raise DataError(path, reason, "split again without --split-file")
    records = tuple(replace(record, split=splits[_key(record)]) for record in dataset.records)
    return replace(dataset, records=records)


def _key(record: ImageRecord) -> str:
    return f"{record.product}/{record.source_split}/{record.defect}/{record.path.name}"
