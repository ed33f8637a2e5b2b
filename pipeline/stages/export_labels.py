"""`pipeline export` and `pipeline import`: COCO to another tool's format, and back.

Both write, read back by the rules of the tool that will read, and report what each object kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import ExportConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import images_beside
from pipeline.formats.image_files import refuse_leaks
from pipeline.formats.registry import FORMATS, Format
from pipeline.io.run_record import RunRecord
from pipeline.metrics.fidelity import compare
from pipeline.reports.fidelity import fidelity_report
from pipeline.runtime.progress import track
from pipeline.types import Dataset, Detections, ImageRecord

_GONE = -1  # an id that no image has


def export_labels(
    source: Path,
    to: str,
    output: Path,
    config: ExportConfig,
    images: Path | None = None,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Write a COCO set (file, or folder that convert-masks wrote) in the format `to`.

    images: the folder that the file's names are relative to; without it, `images` beside the file
    or beside its folder. allow_outside: images may lie, or lead, outside it. Raises ConfigError for
    an unknown format, and for `config.below` of labels that nobody rated, DataError for what cannot
    be read. `exit_code` is 1 when an object keeps an IoU under `config.min_iou`.
    """
    form = _format(to, "--to")
    dataset = _read("coco", source, images or _beside(source), allow_outside)
    if config.below is not None:
        dataset = _doubtful(dataset, config.below, source)
    return _rewritten("export", dataset, form, to, [source], output, config)


def import_labels(
    source: Path,
    origin: str,
    output: Path,
    config: ExportConfig,
    images: Path | None = None,
    onto: Path | None = None,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Read labels in the format `origin` and write them as COCO into `output`.

    images: the folder of the images, where the format does not say. onto: a COCO set of which some
    images were reviewed: those take the objects that were read, the others keep theirs.
    allow_outside: as in `export_labels`. Raises as that does, and DataError for a reviewed image
    that the set does not hold.
    """
    _format(origin, "--from")
    dataset = _read(origin, source, images, allow_outside)
    if onto:
        base = _read("coco", onto, images or _beside(onto), allow_outside)
        dataset = _laid_over(base, dataset)
    return _rewritten("import", dataset, FORMATS["coco"], "coco", [source, onto], output, config)


def _rewritten(
    command: str, dataset: Dataset, form: Format, name: str, reads: Sequence[Path | None],
    output: Path, config: ExportConfig,
) -> dict[str, Any]:  # fmt: skip
    settings = {**config.model_dump(mode="json"), "format": name}
    record = RunRecord(command, settings, reads)
    with record.whole_folder(output) as folder:
        form.write(folder, dataset, config.copy_images, config.polygon_loss)
        back = form.read(folder, None)
        with fidelity_report(folder) as report:
            for one, other in _pairs(dataset, back):
                objects = dataset.on(one)
                report.add(one, {name: compare(objects, back.on(other), *one.size)})
        poor = report.below(config.min_iou) if config.min_iou else 0
        summary = {
            "output": str(output),
            "format": name,
            "images": len(dataset.records),
            "objects": sum(len(dataset.on(found)) for found in dataset.records),
            "categories": list(dataset.categories),
            "fidelity": report.finish(folder),
            "objects_below_min_iou": poor,
        }
        record.write(folder, summary)
    return summary | ({"exit_code": 1} if poor else {})


def _doubtful(dataset: Dataset, limit: float, source: Path) -> Dataset:
    """The images with an object that is trusted less than `limit`."""
    trust = {
        record.id: next(iter(dataset.on(record).trust.values()))
        for record in dataset.records
        if dataset.on(record).trust
    }
    if not trust:
        raise ConfigError(f"--below: {source} says of no object how far to trust it")
    chosen = [r for r in dataset.records if r.id in trust and (trust[r.id] < limit).any()]
    if not chosen:
        raise ConfigError(f"--below {limit}: {source} trusts every object more; nothing to export")
    return dataset.subset(chosen)


def _laid_over(base: Dataset, reviewed: Dataset) -> Dataset:
    """A set with the objects that another has on images of the same name. Of the untouched objects'
    figures, those that say how far to trust them are kept."""
    new = [name for name in reviewed.categories if name not in base.categories]
    categories = (*base.categories, *new)
    label_of = np.array([categories.index(name) for name in reviewed.categories], np.int64)
    objects: dict[int, Detections] = {}
    taken = Counter[int]()
    for record, found in _pairs(base, reviewed, "lay over"):
        if found.id == _GONE:
            kept = base.on(record)
            known = {name: kept.quality[name] for name in kept.trust if name in kept.quality}
            objects[record.id] = replace(kept, quality=known)
            continue
        seen = reviewed.on(found)
        labels = label_of[seen.labels]
        objects[record.id] = replace(seen, labels=labels, scores=None, quality={})
        taken[found.id] += 1
    for record in reviewed.records:
        if (count := taken[record.id]) != 1:
            reason = f"was reviewed, but --onto holds {count} images of that name"
            raise DataError(record.path, reason, "check --onto")
    return Dataset(categories, base.records, objects)


def _format(name: str, option: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(f"{option} {name}: no such format; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def _read(name: str, source: Path, images: Path | None, allow_outside: bool) -> Dataset:
    """A set whose images all lie in the folder of its labels or in `images`, as far as they must
    (`allow_outside`)."""
    dataset = FORMATS[name].read(source, images, allow_outside)
    roots = [source if source.is_dir() else source.parent]
    if images is not None:  # YOLO's data.yaml names parts of a set, which lie beside each other
        roots = [images.parent if name.startswith("yolo") else images, *roots]
    refuse_leaks(dataset, roots, allow_outside)
    return dataset


def _beside(source: Path) -> Path | None:
    return images_beside(source) if source.is_file() else None


def _pairs(
    dataset: Dataset, back: Dataset, title: str = "read back"
) -> Iterator[tuple[ImageRecord, ImageRecord]]:
    """Each image with what was read back of it, by its name, or the last part of it where a format
    keeps no folders; one that is gone with an empty one, of the id `_GONE`."""
    by_name = {record.file_name: record for record in back.records}
    last = Counter(Path(name).name for name in by_name)
    by_name |= {Path(n).name: r for n, r in by_name.items() if last[Path(n).name] == 1}
    for record in track(dataset.records, title):
        found = by_name.get(record.file_name) or by_name.get(Path(record.file_name).name)
        yield record, found or replace(record, id=_GONE)
