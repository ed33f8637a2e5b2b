"""`pipeline audit`: which labels of a set are likely wrong, and which defects have none.

A small model learns from a part of the set and predicts the rest, so no label speaks for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.config.labels import AuditConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.datasets import read_datasets
from pipeline.formats.groups import group_file
from pipeline.formats.layouts.jpeg_masks import threshold_notes
from pipeline.formats.mvtec import with_instances
from pipeline.geometry import masks as mask_geometry
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.metrics.label_errors.evidence import (
    ImageEvidence,
    image_evidence,
    usual_least_area,
)
from pipeline.metrics.label_errors.ranking import (
    FEWEST_LABELS,
    Suspect,
    SuspectKind,
    mixed_up,
    suspects,
)
from pipeline.metrics.unusual_images import deviations
from pipeline.models.features.backbones import pretrained_weights
from pipeline.models.segmentation.cross_validation import OutOfFold, Processes
from pipeline.models.segmentation.hypercolumns import BACKBONE
from pipeline.models.weights.store import Weights
from pipeline.reports.audit import PAGE, TABLE, write_page, write_review, write_table
from pipeline.reports.grouping import GroupCounts, Grouping, LeakCounts, grouped, report_leaks
from pipeline.results import StageResult
from pipeline.runners import Runner, check_runner
from pipeline.runtime.progress import say
from pipeline.splits import folds
from pipeline.types import Dataset

_DEFAULT = AuditConfig()
_LIKELY = 0.5  # suspicion from which a suspect is counted
_UNUSUAL, _MOST_UNUSUAL = 5.0, 20  # robust deviations, and how many images are named
_RARE_LABELS, _RARE_GROUPS = 5, 3  # fewer are too few to learn from
_WORST = 10  # suspects that are named


@dataclass(frozen=True, kw_only=True)
class AuditResult(StageResult):
    """What an audit found. suspects: by kind, those that are more likely an error than not, if one
    label in ten is. worst: the first ten. leaks: of a set with splits. unusual_images: unlike all
    others, the most unlike first. rare_categories: with too few labels or objects to learn from.
    mixed_up: pairs of categories by the number of labels of the one that look like the other.
    notes: what the audit cannot tell. faults: a line for each image that was left out."""

    output: Path
    images: int
    labels: int
    groups: GroupCounts
    leaks: LeakCounts | None = None
    suspects: Mapping[SuspectKind, int]
    worst: tuple[str, ...] = ()
    unusual_images: tuple[str, ...] = ()
    rare_categories: Mapping[str, int]
    mixed_up: Mapping[str, int]
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def audit(
    source: Path,
    output: Path,
    config: AuditConfig = _DEFAULT,
    *,
    images: Path | None = None,
    device: str = "auto",
    keep_going: bool = False,
    overwrite: bool = False,
    runner: Runner = "local",
    workers: int = 1,
) -> AuditResult:
    """Search the labels of a set for errors. Nothing of the set is changed.

    source: a product folder in a known layout, a folder that convert-masks wrote, or a COCO file
    with masks. images: the folder of the images of a COCO file. keep_going: leave out faulty
    images. overwrite: delete unfinished work of other settings. runner, workers: where images are
    looked at, and by how many processes; the bytes are the same. A stopped call goes on when it is
    repeated. Writes audit.html, suspects.csv, suggestions.json, and review/ with the labels of the
    most suspicious images for COCO, CVAT, Label Studio and LabelMe. Raises DataError for a set
    without labels, or whose images all show one object.
    """
    check_runner(runner, workers)
    faults = Faults(keep_going)
    dataset = _labelled(source, images, config, faults)
    reads = [source, images, group_file(config.group_by)]
    record = RunRecord("audit", config.model_dump(mode="json"), reads)
    weights = pretrained_weights(BACKBONE, "auto")
    if weights:
        record.used_weights(weights.name, weights.sha256)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder, AuditResult):
            return finished
        grouping = grouped(dataset, config.group_by, [path for path in (source, images) if path])
        result = _audited(
            folder, output, grouping, weights, config, device, faults, Processes(runner, workers)
        )
        record.write(folder, result)
    return result


def _labelled(source: Path, images: Path | None, config: AuditConfig, faults: Faults) -> Dataset:
    """The set with its instances."""
    dataset = read_datasets([source], faults, images, config.allow_outside)
    if any(record.masks for record in dataset.records):
        for note in threshold_notes(dataset.records, config.mask_threshold):
            say(note)
        dataset = with_instances(dataset, faults, config.mask_threshold)
    if not any(len(dataset.on(record)) for record in dataset.records):
        raise DataError(source, "holds no label", "give a set with masks")
    return dataset


def _audited(
    folder: Path, output: Path, grouping: Grouping, weights: Weights | None, config: AuditConfig,
    device: str, faults: Faults, processes: Processes,
) -> AuditResult:  # fmt: skip
    """Look, rank and write."""
    dataset = grouping.dataset
    evidence, unusual = _evidence(folder, dataset, weights, config, device, faults, processes)
    ranked = suspects(dataset, evidence)
    write_table(folder / TABLE, ranked, dataset)
    write_page(folder / PAGE, ranked[: config.pictures], dataset, len(ranked))
    write_review(folder, ranked[: config.review], dataset)
    likely = [one for one in ranked if one.suspicion >= _LIKELY]
    labels = sum(len(dataset.on(record)) for record in dataset.records)
    has_splits = all(record.split for record in dataset.records)
    return AuditResult(
        output=output,
        images=len(dataset.records),
        labels=labels,
        groups=grouping.counts,
        leaks=report_leaks(folder, grouping, dataset.records) if has_splits else None,
        suspects=dict(Counter(one.kind for one in likely).most_common()),
        worst=tuple(_line(one, dataset) for one in ranked[:_WORST]),
        unusual_images=unusual,
        rare_categories=_rare(dataset),
        mixed_up=mixed_up(ranked, dataset.categories),
        notes=(*grouping.notes, *_notes(labels, weights)),
        faults=faults.lines,
    )


def _evidence(
    folder: Path, dataset: Dataset, weights: Weights | None, config: AuditConfig, device: str,
    faults: Faults, processes: Processes,
) -> tuple[dict[int, ImageEvidence], tuple[str, ...]]:  # fmt: skip
    """The evidence of each image by its id, and the names of unusual images."""
    count = min(config.folds, len({record.group for record in dataset.records}))
    if count < 2:
        first = dataset.records[0].path
        reason = f"the {len(dataset.records)} images show one object: no other can speak for it"
        raise DataError(first, reason, "add images, or use --group-by none")
    fold_of = folds(dataset.records, count, config.seed)
    models = OutOfFold(dataset, weights, device, faults, config.seed, processes)
    areas = [
        mask_geometry.area(rle) for one in dataset.records for rle in dataset.on(one).masks or ()
    ]
    least = usual_least_area(areas)
    with WorkLog(folder / LOG, "images", TypeAdapter(ImageEvidence)) as log:
        done = [record.id for record in models.records if record.id in log]
        judge = partial(image_evidence, least_area=least, seed=config.seed)
        for record, own in models.predict(fold_of, judge, done):
            log.add(record.id, own)
        logged = {record.id: log.get(record.id) for record in models.records}
    evidence = {key: value for key, value in logged.items() if value is not None}
    groups = [record.group for record in models.records]
    far = deviations(models.embeddings, groups)
    order = sorted(range(len(far)), key=lambda row: -far[row])[:_MOST_UNUSUAL]
    names = tuple(models.records[row].file_name for row in order if far[row] >= _UNUSUAL)
    return evidence, names


def _line(one: Suspect, dataset: Dataset) -> str:
    name = "" if one.category is None else f" ({dataset.categories[one.category]}"
    rather = "" if one.suggestion is None else f", rather {dataset.categories[one.suggestion]}"
    close = ")" if name else ""
    return f"{one.suspicion:.2f} {one.kind} on {one.record.file_name}{name}{rather}{close}"


def _rare(dataset: Dataset) -> dict[str, int]:
    """Categories of too few labels or objects, with the number of their labels."""
    labels: Counter[int] = Counter()
    groups: dict[int, set[str]] = {}
    for record in dataset.records:
        for label in dataset.on(record).labels.tolist():
            labels[label] += 1
            groups.setdefault(label, set()).add(record.group)
    return {
        name: labels[label]
        for label, name in enumerate(dataset.categories)
        if labels[label] < _RARE_LABELS or len(groups.get(label, ())) < _RARE_GROUPS
    }


def _notes(labels: int, weights: Weights | None) -> Sequence[str]:
    notes = []
    if labels < FEWEST_LABELS:
        notes.append(
            f"{labels} labels are too few to learn what an error looks like: only missed defects "
            "are ranked"
        )
    if weights is None:
        notes.append(f"without the weights of {BACKBONE} the order is of little use")
    for note in notes:
        say(note)
    return notes
