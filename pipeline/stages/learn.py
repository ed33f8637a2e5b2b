"""`pipeline learn`: the models of a run learn from what was reviewed, and label the rest again.

Only images whose review is finished are learned from. Each call with new ones adds a generation to
the folder `learned` of the run; the models go on from those of the one before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from pipeline.config.schema import LearnConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.image_files import leave_out_leaks
from pipeline.io.locks import BUSY, folder_lock
from pipeline.io.read import RUN_FILE
from pipeline.io.steps import run_step
from pipeline.io.work_log import WorkLog
from pipeline.io.write import make_folder, write_json
from pipeline.results import StageResult, from_json
from pipeline.review.create import content_refusals
from pipeline.review.finished import FinishedImages, finished_images
from pipeline.review.generations import (
    LEARNED,
    Generation,
    finished_generations,
    generations,
    last_models,
    offered,
    propose_labels,
)
from pipeline.review.reviewed import image_records
from pipeline.review.source import Source, find_source, image_root
from pipeline.review.store import ReviewStore
from pipeline.runtime.progress import say
from pipeline.stages.combine import CombineResult
from pipeline.stages.learn_steps import (
    Lesson,
    NewLabelsResult,
    ReviewedSet,
    model_steps,
    reviewed_counts,
    write_grown,
)
from pipeline.types import Dataset

_DEFAULT = LearnConfig()
_STEPS = "steps.sqlite"
_ADVICE = "mark images good (G) or checked (K) in `pipeline review`, or judge all their labels"


@dataclass(frozen=True, kw_only=True)
class LearnResult(StageResult):
    """What was learned from how much. generation: its number, from 1; output: its folder, with the
    models. images, masks: reviewed ones, of which the models have learned. boxes_alone: finished
    images that were left out, because an object has no mask. labelled, labels: images that were
    left to review, and their new labels. is_new: False where there was nothing new to learn.
    proposed_images, proposed: images of the review whose labels are new ones, and these labels;
    None while the page is open, which offers them itself."""

    output: Path
    generation: int
    images: int
    masks: int
    boxes_alone: int = 0
    segmenter: Path
    sam: Path | None = None
    labeller: Path
    label_iou: float | None = None
    labelled: int
    labels: int
    is_new: bool = True
    proposed_images: int | None = None
    proposed: int | None = None
    faults: tuple[str, ...] = ()


def learn(
    run: Path,
    config: LearnConfig = _DEFAULT,
    *,
    labels: Path | None = None,
    images: Path | None = None,
    session: Path | None = None,
    device: str = "auto",
    keep_going: bool = False,
    overwrite: bool = False,
) -> LearnResult:
    """Learn from the finished images of a review, and propose new labels for the others.

    run: folder of `pipeline run`. labels: that were reviewed; by default those of the run. images:
    their folder. session: the file of the review. overwrite: delete a step's unfinished work of
    other settings. The same call goes on after a stop, with what was reviewed when it began. Raises
    DataError for a run without a labeller, and where nothing is finished.
    """
    if not (run / "labeller" / "card.json").is_file():
        raise DataError(run, "holds no labeller", "give the folder that `pipeline run` wrote")
    source = find_source(labels or run, images, session)
    with folder_lock(run.resolve() / LEARNED, "learn"):
        review = _read_review(source, images)
        last = finished_generations(run)[-1]
        if _is_same(last, review.finished, config) and len(generations(run)) == last.number + 1:
            say(f"nothing new was reviewed since generation {last.number}: nothing is done")
            result = replace(_result_of(last), is_new=False)
        else:
            lesson = _lesson(run, last, review, config, device, keep_going, overwrite)
            result = _learned(lesson, last.number + 1, review)
        return _with_proposals(result, run, source)


@dataclass(frozen=True)
class _Review:
    """finished: what is learned from. left: the other images. root: their folder."""

    session: Path
    root: Path
    finished: FinishedImages
    left: Dataset


def _read_review(source: Source, images: Path | None) -> _Review:
    with ReviewStore(source.session) as store, content_refusals(source.session):
        root = image_root(source, store.root, images)
        finished = finished_images(store, root)
        records = image_records(store, root)
    known = {record.id for record in finished.dataset.records}
    left = Dataset((), tuple(record for record in records if record.id not in known))
    return _Review(source.session, root, finished, left)


def _is_same(last: Generation, finished: FinishedImages, config: LearnConfig) -> bool:
    """Whether the last generation learned from the same, with the same settings."""
    record, counts = last.record, reviewed_counts(last.folder)
    if record is None or record.config != config.model_dump(mode="json"):
        return False
    return counts is not None and counts.sha256 == finished.sha256


def _result_of(generation: Generation) -> LearnResult:
    record = generation.record
    assert record is not None  # it is finished
    return from_json(LearnResult, record.summary, generation.folder / RUN_FILE)


def _lesson(
    run: Path, last: Generation, review: _Review, config: LearnConfig, device: str,
    keep_going: bool, overwrite: bool,
) -> Lesson:  # fmt: skip
    folder = run / LEARNED / str(last.number + 1)
    models = last_models(run)
    if "segmenter" not in models:
        raise DataError(run, "holds no segmenter", "give the folder that `pipeline run` wrote")
    return Lesson(
        run, models, folder, review.left, config, device, keep_going, overwrite,
    )  # fmt: skip


def _learned(lesson: Lesson, number: int, review: _Review) -> LearnResult:
    """A generation, from its first step or from where it was stopped."""
    started = time.perf_counter()
    faults = Faults(lesson.keep_going)
    if reviewed_counts(lesson.folder) is not None:
        say(f"generation {number} goes on, with what was reviewed when it began")
    else:
        reviewed = _reviewed_set(review, lesson.config, faults)
        make_folder(lesson.folder)
        say(f"[convert-masks] {reviewed.images} reviewed images with {reviewed.masks} masks")
        write_grown(lesson.run / "data", lesson.folder / "data", reviewed, faults)
    with WorkLog(lesson.folder / _STEPS, "steps", TypeAdapter(str)) as log:
        done = {step.name: run_step(step, log) for step in model_steps(lesson)}
    result = _result(lesson, number, done, faults)
    content = {
        "command": "learn",
        "config": lesson.config.model_dump(mode="json"),
        "seconds": round(time.perf_counter() - started, 2),
        "summary": result.to_json(),
    }
    write_json(lesson.folder / RUN_FILE, content)  # last: only a finished generation has one
    return result


def _reviewed_set(review: _Review, config: LearnConfig, faults: Faults) -> ReviewedSet:
    """What is learned from. Raises DataError for nothing."""
    found = review.finished
    if not found.dataset.records:
        reason = (
            "has no finished image with masks" if found.boxes_alone else "has no finished image"
        )
        raise DataError(review.session, reason, _ADVICE)
    dataset = leave_out_leaks(found.dataset, [review.root], config.allow_outside, faults)
    masks = sum(len(dataset.on(record)) for record in dataset.records)
    return ReviewedSet(dataset, found.sha256, len(dataset.records), masks, found.boxes_alone)


def _result(
    lesson: Lesson, number: int, done: Mapping[str, Mapping[str, JsonValue]], faults: Faults
) -> LearnResult:
    counts, folder = reviewed_counts(lesson.folder), lesson.folder
    assert counts is not None  # its set is written
    labels = from_json(NewLabelsResult, done["label"], folder / "labels" / RUN_FILE)
    quality = from_json(CombineResult, done["combine"], folder / "labeller" / RUN_FILE).labels
    tuned = folder / "sam"
    return LearnResult(
        output=folder,
        generation=number,
        images=counts.images,
        masks=counts.masks,
        boxes_alone=counts.boxes_alone,
        segmenter=folder / "segmenter",
        sam=tuned if tuned.is_dir() else lesson.before.get("sam"),
        labeller=folder / "labeller",
        label_iou=quality.label_iou if quality else None,
        labelled=labels.images,
        labels=labels.labels,
        faults=(*faults.lines, *labels.faults),
    )


def _with_proposals(result: LearnResult, run: Path, source: Source) -> LearnResult:
    """Let the new labels enter the review, unless a page is open: that offers them itself."""
    try:
        with folder_lock(source.session, "review"), ReviewStore(source.session) as store:
            if (generation := offered(run, store)) is None:
                return result
            made = propose_labels(store, generation)
    except DataError as error:
        if error.remedy != BUSY:
            raise
        say("the review is open: its page offers the new labels")
        return result
    return replace(result, proposed_images=made.images, proposed=made.objects)
