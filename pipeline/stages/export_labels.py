"""`pipeline export` and `pipeline import`: COCO to another tool's format, and back.

Both write labels, read them back by the rules of the tool that will read them, and report the
fidelity of each object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.config.labels import ExportConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import images_beside
from pipeline.formats.coco_folders import images_meant
from pipeline.formats.distinct_names import with_portable_names
from pipeline.formats.image_files import leave_out_leaks
from pipeline.formats.registry import FORMATS, Format
from pipeline.formats.source import SourceCounts, SourceLog, refuse_left_out
from pipeline.io.image_copies import portable_name
from pipeline.io.run_record import RunRecord
from pipeline.metrics.fidelity import compare
from pipeline.metrics.fidelity_totals import FormatFidelity
from pipeline.reports.fidelity import fidelity_report
from pipeline.results import StageResult
from pipeline.review.export import ReviewedSet, Wish, reviewed_set
from pipeline.runtime.progress import track
from pipeline.types import EXPECTED_IOU, Dataset, Detections, ImageRecord

_COCO = {"coco", "coco-polygon"}  # formats whose photos may be beside the folder of the file
_DEFAULT = ExportConfig()
_NO_ID = -1  # an id that no image has


@dataclass(frozen=True, kw_only=True)
class _LabelsResult(StageResult):
    """output: the folder that was written. fidelity: by format, of the objects that were read.
    objects_below_min_iou: objects with an IoU under `config.min_iou`. source: every object there,
    with what was left out. faults: a line for each faulty image or object. review: the session
    whose labels were written, with its judged objects (`reviewed`), and those left out."""

    output: Path
    format: str
    images: int
    objects: int
    categories: tuple[str, ...]
    fidelity: Mapping[str, FormatFidelity]
    objects_below_min_iou: int
    source: SourceCounts
    faults: tuple[str, ...] = ()
    review: Path | None = None
    reviewed: int | None = None
    rejected: int | None = None

    @property
    def exit_code(self) -> int:
        """1 when an object has an IoU under `config.min_iou`."""
        return 1 if self.objects_below_min_iou else 0


@dataclass(frozen=True, kw_only=True)
class ExportLabelsResult(_LabelsResult):
    """The result of `export_labels`."""


@dataclass(frozen=True, kw_only=True)
class ImportLabelsResult(_LabelsResult):
    """The result of `import_labels`."""


R = TypeVar("R", bound=_LabelsResult)


def export_labels(
    source: Path,
    to: str,
    output: Path,
    config: ExportConfig = _DEFAULT,
    *,
    images: Path | None = None,
    allow_outside: bool = False,
    keep_going: bool = False,
) -> ExportLabelsResult:
    """Write COCO labels in another format.

    source: a COCO file, a folder that convert-masks wrote, or a session of `review`; where a
    session lies beside the labels, its labels are written, unless `config.original`. to: a name in
    `FORMATS`. images: the folder that file names are relative to; without it, `images` beside the
    file or its folder, or the folder of the session. allow_outside: images may be outside that
    folder, or be links that lead there. keep_going: leave out faulty images and objects. Raises
    ConfigError for an unknown format, `config.shards` of one that is never divided, and
    `config.below` with labels that have no expected IoU and no score; DataError for a file that
    cannot be read, and with `config.strict` where anything is left out.
    """
    form = _format(to, "--to", config.shards)
    log = SourceLog(Faults(keep_going))
    wish = Wish(config.original, config.finished)
    if reviewed := reviewed_set(source, images, allow_outside, log, wish):
        dataset = reviewed.dataset
    else:
        dataset = _read("coco", source, images or _beside(source), allow_outside, log)
    if form.needs_masks:
        _refuse_boxes_alone(dataset, source, to)
    if config.below is not None:
        dataset = _below(dataset, config.below, source)
    counts = _counts(log, dataset, source, config)
    return _write(
        ExportLabelsResult, "export", dataset, to, [source], output, config, log, counts, reviewed
    )


def import_labels(
    source: Path,
    origin: str,
    output: Path,
    config: ExportConfig = _DEFAULT,
    *,
    images: Path | None = None,
    onto: Path | None = None,
    allow_outside: bool = False,
    keep_going: bool = False,
) -> ImportLabelsResult:
    """Read labels in another format and write them as COCO.

    origin: the format of `source`, a name in `FORMATS`. images: the folder of the images, where the
    format does not say. onto: COCO labels (file or folder) of which `source` holds some images,
    reviewed: these images take the objects of `source`, and the others keep their own.
    allow_outside, keep_going: as in `export_labels`. Raises as `export_labels` does, ConfigError
    for `config.annotator` with a format that names none, and DataError for a reviewed image that is
    not in `onto`.
    """
    form = _format(origin, "--from")
    if config.annotator and not form.has_annotators:
        raise ConfigError(f"--annotator: {origin} does not say who labelled what; leave it out")
    with closing(SourceLog(Faults(keep_going), config.annotator or "")) as log:
        try:
            if images is None and origin in _COCO:
                images = images_meant(source)
            dataset = _read(origin, source, images, allow_outside, log)
            counts = _counts(log, dataset, source, config)
            if onto:
                own = SourceLog(log.faults)
                base = _read("coco", onto, images or _beside(onto), allow_outside, own)
                dataset = _merged(base, dataset)
            return _write(ImportLabelsResult, "import", dataset, "coco", [source, onto], output,
                          config, log, counts)  # fmt: skip
        except DataError as error:
            raise log.shown(error) from error


def _counts(log: SourceLog, dataset: Dataset, source: Path, config: ExportConfig) -> SourceCounts:
    """Every object of the source, after a line for what was left out. Raises DataError for any with
    `config.strict`."""
    if config.strict:
        refuse_left_out(log.left_out(), source)
    log.report()
    return log.counts(dataset)


def _write(
    kind: type[R], command: str, dataset: Dataset, name: str, reads: Sequence[Path | None],
    output: Path, config: ExportConfig, log: SourceLog, source: SourceCounts,
    reviewed: ReviewedSet | None = None,
) -> R:  # fmt: skip
    """Write the format `name`, read it back, and report the fidelity."""
    form = FORMATS[name]
    dataset = with_portable_names(dataset, form.is_by_stem)
    settings = {**config.model_dump(mode="json"), "format": name}
    record = RunRecord(command, settings, reads)
    with record.whole_folder(output) as folder:
        form.write(folder, dataset, config.copy_images, config.polygon_loss)
        own = reviewed.write_history(folder, dataset) if reviewed else {}
        if config.shards and form.shard:
            form.shard(folder, config.shards)
        back = form.read(folder, None, log=SourceLog())
        with fidelity_report(folder) as report:
            for one, other in _pairs(dataset, back):
                report.add(one, {name: compare(dataset.on(one), back.on(other), *one.size)})
        result = kind(
            output=output,
            format=name,
            images=len(dataset.records),
            objects=sum(len(dataset.on(image)) for image in dataset.records),
            categories=dataset.categories,
            fidelity=report.finish(folder, source),
            objects_below_min_iou=report.below(config.min_iou) if config.min_iou else 0,
            source=source,
            faults=tuple(str(log.shown(fault)) for fault in log.faults.errors),
            **own,
        )
        record.write(folder, result.to_json())
    return result


def _below(dataset: Dataset, limit: float, source: Path) -> Dataset:
    """The images with an object whose confidence is under `limit`."""
    confidences = {
        record.id: confidence
        for record in dataset.records
        if (own := dataset.on(record))
        and (confidence := own.quality.get(EXPECTED_IOU, own.confidence)) is not None
    }
    if not confidences:
        raise ConfigError(f"--below: no object of {source} has an expected IoU or a score")
    low = {key for key, confidence in confidences.items() if (confidence < limit).any()}
    if not low:
        raise ConfigError(
            f"--below {limit}: no object of {source} has a lower expected IoU or score; "
            "nothing to export"
        )
    return dataset.subset([record for record in dataset.records if record.id in low])


def _merged(base: Dataset, reviewed: Dataset) -> Dataset:
    """The dataset `base`, where images that `reviewed` has take the objects of `reviewed`. Other
    objects keep their score and expected IoU, and no other column."""
    categories = tuple(dict.fromkeys((*base.categories, *reviewed.categories)))
    label_of = np.array([categories.index(name) for name in reviewed.categories], np.int64)
    objects: dict[int, Detections] = {}
    uses = Counter[int]()
    for record, other in _pairs(base, reviewed, "merge"):
        if other.id == _NO_ID:
            own = base.on(record)
            quality = {k: v for k, v in own.quality.items() if k in own.confidence_columns}
            objects[record.id] = replace(_bare(own), scores=own.scores, quality=quality)
            continue
        new_objects = reviewed.on(other)
        objects[record.id] = replace(_bare(new_objects), labels=label_of[new_objects.labels])
        uses[other.id] += 1
    for record in reviewed.records:
        if (count := uses[record.id]) != 1:
            reason = f"was reviewed, but --onto holds {count} images of that name"
            raise DataError(record.path, reason, "check --onto")
    return Dataset(categories, base.records, objects)


def _bare(objects: Detections) -> Detections:
    """The objects without columns beside labels, boxes and masks."""
    return Detections(objects.boxes, objects.labels, masks=objects.masks)


def _format(name: str, option: str, shards: int | None = None) -> Format:
    if name not in FORMATS:
        raise ConfigError(f"{option} {name}: no such format; there are {', '.join(FORMATS)}")
    if shards and FORMATS[name].shard is None:
        able = ", ".join(each for each in FORMATS if FORMATS[each].shard)
        raise ConfigError(f"--shards: {name} is never divided; choose {able}")
    return FORMATS[name]


def _read(
    name: str, source: Path, images: Path | None, allow_outside: bool, log: SourceLog
) -> Dataset:
    """Read a dataset. Raises DataError for an image outside the folder of the labels and outside
    `images`, unless `allow_outside`."""
    dataset = FORMATS[name].read(source, images, allow_outside, log)
    roots = [source if source.is_dir() else source.parent]
    if images is not None:  # YOLO's folders of splits lie beside each other
        roots = [images.parent if name.startswith("yolo") else images, *roots]
    if log.made is not None:
        roots.append(log.made)
    kept = leave_out_leaks(dataset, roots, allow_outside, log.faults)
    ids = {record.id for record in kept.records}
    for record in (each for each in dataset.records if each.id not in ids):
        log.take_back("its image is faulty", record.file_name, len(dataset.on(record)))
    return kept


def _refuse_boxes_alone(dataset: Dataset, source: Path, to: str) -> None:
    """Raise DataError for objects without masks: the format would hold nothing of them."""
    boxes = [objects for record in dataset.records if (objects := dataset.on(record)).masks is None]
    if count := sum(map(len, boxes)):
        reason = f"has {count} objects that are boxes without masks, which {to} cannot hold"
        raise DataError(source, reason, "make masks of them with `pipeline segment --boxes`")


def _beside(source: Path) -> Path | None:
    return images_beside(source) if source.is_file() else None


def _pairs(
    dataset: Dataset, back: Dataset, title: str = "read back"
) -> Iterator[tuple[ImageRecord, ImageRecord]]:
    """Each image with the image of `back` that has the same name, the name of its copy, or the same
    last part where a format keeps no folders. An image without partner gets one with the id
    `_NO_ID`."""
    by_name = {record.file_name: record for record in back.records}
    last = Counter(Path(name).name for name in by_name)
    by_name |= {Path(n).name: r for n, r in by_name.items() if last[Path(n).name] == 1}
    for record in track(dataset.records, title):
        copied = portable_name(record.file_name)
        names = (record.file_name, copied, Path(record.file_name).name, Path(copied).name)
        partner = next((by_name[name] for name in names if name in by_name), None)
        yield record, partner or replace(record, id=_NO_ID)
