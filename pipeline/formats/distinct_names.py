"""Names for images whose labels are named by the image without its suffix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from pipeline.runtime.progress import say
from pipeline.types import Dataset


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
            renamed.append(f"{record.file_name} as {stem}{suffix}")
        used.add(stem)
        records.append(replace(record, file_name=f"{stem}{suffix}"))
    say(f"{len(renamed)} images have the name of another but for the suffix. They are written with "
        f"a name of their own: {', '.join(renamed[:3])}")  # fmt: skip
    return replace(dataset, records=tuple(records))


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
