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


_PARTS = TypeAdapter(dict[str, Annotated[str, AfterValidator(_printable)]])


def allot(records: Sequence[ImageRecord], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Give each group of records a part, so that every defect kind is spread by `shares`.

    Within a kind, each part first gets one group in the order of `shares`, then the part that lacks
    most for its share gets the next; a kind with fewer groups than parts reaches the first ones
    only. The kind of a mixed group is its rarest. Returns {group: part}; the same seed and records
    give the same parts. Raises ConfigError for a negative share, and for none that is positive.
    """
    wanted = {part: share for part, share in shares.items() if share > 0}
    if not wanted or not all(0 <= share < math.inf for share in shares.values()):
        shown = ", ".join(f"{part} {share:g}" for part, share in shares.items())
        raise ConfigError(f"shares must be positive: {shown}")
    count = Counter(record.defect for record in records)
    members: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        members[record.group].append(record)
    strata: dict[str, list[str]] = defaultdict(list)
    for group in sorted(members):
        strata[min((r.defect for r in members[group]), key=lambda d: (count[d], d))].append(group)
    generator = np.random.default_rng(seed)
    parts: dict[str, str] = {}
    for defect in sorted(strata):
        groups = [strata[defect][i] for i in generator.permutation(len(strata[defect]))]
        sizes = {group: len(members[group]) for group in groups}
        parts |= _deal(groups, sizes, wanted)
    return parts


def _deal(
    groups: Sequence[str], sizes: Mapping[str, int], shares: Mapping[str, float]
) -> dict[str, str]:
    whole = sum(sizes.values()) / sum(shares.values())
    lacking = {part: share * whole for part, share in shares.items()}
    unserved = list(shares)
    parts = {}
    for group in groups:
        part = unserved.pop(0) if unserved else max(lacking, key=lambda name: lacking[name])
        parts[group] = part
        lacking[part] -= sizes[group]
    return parts


def split(dataset: Dataset, shares: Mapping[str, float], seed: int) -> Dataset:
    """The dataset with each record's `part` set. Shares: part name to its fraction."""
    parts = allot(dataset.records, shares, seed)
    records = tuple(replace(record, part=parts[record.group]) for record in dataset.records)
    return replace(dataset, records=records)


def folds(records: Sequence[ImageRecord], count: int, seed: int) -> dict[str, int]:
    """Give each group one of `count` folds, stratified by defect. Returns {group: fold from 0}."""
    if count < 2:
        raise ConfigError(f"--folds {count}: at least 2 are needed")
    parts = allot(records, {str(fold): 1.0 for fold in range(count)}, seed)
    return {group: int(fold) for group, fold in parts.items()}


def write_split(path: Path, dataset: Dataset) -> None:
    """Write {file name in the source: part}, to be reused with `--split`."""
    write_json(path, {"parts": {_key(record): record.part for record in dataset.records}})


def read_split(path: Path, dataset: Dataset) -> Dataset:
    """Set each record's part from a split file. Raises DataError for what is no split file, and for
    an image it does not name."""
    raw = read_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("parts"), dict):
        raise DataError(path, "is not a split file", "write one with convert-masks")
    parts = checked(_PARTS, raw["parts"], path, "parts")
    for record in dataset.records:
        if _key(record) not in parts:
            raise DataError(path, f"does not name {_key(record)}", "split again without --split")
    records = tuple(replace(record, part=parts[_key(record)]) for record in dataset.records)
    return replace(dataset, records=records)


def _key(record: ImageRecord) -> str:
    return f"{record.product}/{record.split}/{record.defect}/{record.path.name}"
