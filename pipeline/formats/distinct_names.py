"""Names of images in the folders that `pipeline import` and `pipeline export` write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.io.image_copies import portable_name
from pipeline.runtime.progress import say
from pipeline.types import Dataset


def with_portable_names(dataset: Dataset, is_by_stem: bool) -> Dataset:
    """The same images, each with the suffix that its copy has, see `portable_name`. is_by_stem: no
    two names may differ in the suffix alone."""
    names = {record.file_name for record in dataset.records}
    if is_by_stem or len({portable_name(name) for name in names}) < len(names):
        dataset = with_distinct_stems(dataset)
    named = (replace(r, file_name=portable_name(r.file_name)) for r in dataset.records)
    return replace(dataset, records=tuple(named))


def with_distinct_stems(dataset: Dataset) -> Dataset:
    """The same images, of which no two names differ in the suffix alone: beside a.png, a.jpg
    becomes a_jpg.jpg. Says so."""
    stems = {_stem(record.file_name) for record in dataset.records}
    if len(stems) == len(dataset.records):
        return dataset
    used: set[str] = set()
    records, renamed = [], []
    for record in dataset.records:
        stem, suffix = _stem(record.file_name), PurePosixPath(record.file_name).suffix
        if stem in used:
            while stem in stems:
                stem += f"_{suffix.removeprefix('.') or 'image'}"
            stems.add(stem)
            renamed.append(f"{record.file_name} as {portable_name(stem + suffix)}")
        used.add(stem)
        records.append(replace(record, file_name=f"{stem}{suffix}"))
    say(f"{len(renamed)} images have the name of another but for the suffix. They are written with "
        f"a name of their own: {', '.join(renamed[:3])}")  # fmt: skip
    return replace(dataset, records=tuple(records))


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
