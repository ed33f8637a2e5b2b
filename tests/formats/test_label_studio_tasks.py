"""Which annotation of a task in Label Studio's JSON is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio import HEIGHT, WIDTH, annotation, box, left_out, read, result, task

from pipeline.config.schema import ExportConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.label_studio import read_label_studio
from pipeline.formats.source import SourceLog
from pipeline.io.images import write_png
from pipeline.stages.export_labels import import_labels

CANCELLED = annotation(box("wrong", "x"), box("wrong", "y"), key=5, was_cancelled=True)
FIRST = annotation(box("first"), by={"id": 7, "email": "a@b.c"})
SECOND = annotation(box("second"), key=11, by=8)
TRUE = annotation(box("true"), key=12, by=9, ground_truth=True)
EMPTY = annotation(key=13, by=6)
TEXTS = {"x": "12.5", "y": "20", "width": "25.0", "height": "3e1"}
BARE = {"id": 1, "data": {"image": "a.png"}}
GUESS = {"id": 3, "score": 0.5, "result": [box("guess")]}


@pytest.mark.parametrize(
    ("given", "annotator", "labels", "images", "left"),
    [
        (task(), "", [], 1, 0),
        (task(EMPTY), "", [], 1, 0),
        (task(FIRST, SECOND), "", ["first"], 1, 1),
        (task(FIRST, SECOND, TRUE), "", ["true"], 1, 2),
        (task(EMPTY, FIRST), "", [], 1, 1),
        (task(CANCELLED, FIRST), "", ["first"], 1, 2),
        (task(CANCELLED), "", [], 0, 3),  # two regions, and the task
        (task(annotation(box(), skipped=True)), "", [], 0, 2),
        (task(FIRST, SECOND), "8", ["second"], 1, 1),
        (task(FIRST, SECOND), "7", ["first"], 1, 1),
        (task(FIRST, SECOND), "a@b.c", ["first"], 1, 1),
        (task(FIRST, SECOND, TRUE), "8", ["second"], 1, 2),
        (task(predictions=[GUESS]), "", ["guess"], 1, 0),
        (task(predictions=[GUESS, GUESS]), "", ["guess"], 1, 1),
        (task(FIRST, predictions=[GUESS]), "", ["first"], 1, 1),
        (task(CANCELLED, predictions=[GUESS]), "", [], 0, 4),
        (task(FIRST, predictions=[3, 4], drafts=[5]), "", ["first"], 1, 0),
        (task(FIRST, drafts=[annotation(box())]), "", ["first"], 1, 1),
        (BARE, "", [], 1, 0),
        (BARE | {"completions": [CANCELLED, FIRST]}, "", ["first"], 1, 2),
        (BARE | {"annotations": None, "predictions": None}, "", [], 1, 0),
        (task({"result": None}), "", [], 1, 0),
    ],
)  # fmt: skip
def test_a_task_gives_one_annotation_and_counts_the_others(
    tmp_path: Path, given: dict[str, Any], annotator: str, labels: list[str], images: int, left: int
) -> None:
    dataset, counts = read(tmp_path, given, log=SourceLog(annotator=annotator))
    found = [dataset.categories[i] for r in dataset.records for i in dataset.on(r).labels]
    assert found == labels
    assert len(dataset.records) == images
    assert sum(left_out(counts).values()) == left


def test_the_line_of_what_is_left_out_names_the_annotation_that_is_taken(tmp_path: Path) -> None:
    _, counts = read(tmp_path, task(FIRST, TRUE))
    (row,) = counts.left_out
    assert row.examples == (
        "task 1 annotation 10 of annotator 7 (annotation 12 of annotator 9, the ground truth "
        "is taken)",
    )


def test_a_task_without_the_wanted_annotator_is_left_out(tmp_path: Path) -> None:
    tasks = task(FIRST), task(SECOND, image="b.png", key=2)
    dataset, counts = read(
        tmp_path, *tasks, images=("a.png", "b.png"), log=SourceLog(annotator="8")
    )
    assert [record.file_name for record in dataset.records] == ["b.png"]
    assert left_out(counts) == {"rectanglelabels": 1, "task": 1}
    with pytest.raises(
        DataError, match=r"has no annotation of '9'; its annotators are 7, a@b\.c, 8"
    ):
        read(tmp_path, *tasks, log=SourceLog(annotator="9"))


def test_annotator_is_refused_for_a_format_that_names_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--annotator: cvat does not say who"):
        import_labels(tmp_path, "cvat", tmp_path / "out", ExportConfig(annotator="8"))


def test_predictions_keep_their_scores_and_annotations_have_none(tmp_path: Path) -> None:
    rows = [box("a", score=0.75), box("b", "r2", x=30, score=0.25)]
    guess = {"score": 0.5, "result": [*rows, box("c", "r3", x=50)]}
    tasks = task(predictions=[guess]), task(annotation(*rows), image="b.png", key=2)
    dataset, _ = read(tmp_path, *tasks, images=("a.png", "b.png"))
    first, second = (dataset.on(record).scores for record in dataset.records)
    assert first is not None
    assert first.tolist() == [0.75, 0.25, 0.5]
    assert second is None


def test_predictions_that_are_read_as_objects_are_named_as_such(tmp_path: Path) -> None:
    guess = {"score": 0.5, "result": [box("a")]}
    tasks = task(predictions=[guess]), task(annotation(box("a")), image="b.png", key=2)
    _, counts = read(tmp_path, *tasks, images=("a.png", "b.png"))
    (note,) = counts.notes  # of the two tasks one has predictions alone
    assert note.startswith("1 x tasks without an annotation have predictions of a model")
    assert note.endswith(": task 1")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([task(annotation(box()), image="b.png")], r"b\.png: no such image \(task 1\)"),
        ([task(annotation()), task(annotation(), key=2)], r"is the photo of task 1 and of task 2"),
        # the prefix says that these were two photos; one of them is not here
        ([task(annotation(), image="3f2a9c1b-a.png"), task(annotation(), image="77aa01fe-a.png",
                                                           key=2)], "the photo of task 1 and of"),
        ([{"id": 1, "data": {"text": 3}}], r"task 1: its data names no image \(keys: 'text'\)"),
        ([{"id": 1, "data": {"x": "a.png", "y": "a.png"}}], "task 1: its data names several"),
        ([task(annotation(box(), box("b", "r2", to_name="other")))], "several images beside each"),
        ([task(annotation(result("brushlabels", {"rle": [1, 2], "brushlabels": ["a"]})))],
         "task 1 region r1: a brush ends in its head"),
        ([task(annotation(result("bitmask", {"imageDataURL": "data:,", "labels": ["a"]})))],
         "task 1 region r1: a mask is not a PNG"),
        ([task(annotation(result("ellipselabels", {"x": 1, "y": 1, "ellipselabels": ["a"]})))],
         "task 1 region r1 value radiusX: is missing"),
        ([task(annotation("x"))], "task 1 result 1"),
        ([{"image": "a.png", "label": [], "annotation_id": 3, "annotator": 1}],
         "is Label Studio's JSON-MIN; export as JSON, not JSON-MIN"),
        ([task(image="data:image/png;base64,AAAA")], "task 1: its photo is in the task"),
        ([{"image": "a.png"}], "is not Label Studio's JSON; export as JSON, not JSON-MIN"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_with_the_task(
    tmp_path: Path, tasks: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, *tasks)
    assert "\n" not in str(caught.value)


def test_keep_going_reads_the_tasks_after_a_faulty_one(tmp_path: Path) -> None:
    log = SourceLog(Faults(keep_going=True))
    bad = task(annotation(box()), image="gone.png", key=2)
    tasks = task(annotation(box())), bad, task(annotation(box()), image="c.png", key=3)
    dataset, counts = read(tmp_path, *tasks, images=("a.png", "c.png"), log=log)
    assert [record.file_name for record in dataset.records] == ["a.png", "c.png"]
    assert (len(log.faults.errors), counts.images, counts.read) == (1, 3, 2)


def test_one_task_and_one_annotation_of_a_storage_are_read(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    stored = annotation(box()) | {"task": {"id": 4, "data": {"image": "a.png"}}}
    for content in (task(annotation(box())), stored):
        (tmp_path / "17.json").write_text(json.dumps(content))
        dataset = read_label_studio(tmp_path, None, SourceLog())
        assert [len(dataset.on(record)) for record in dataset.records] == [1]


def test_one_task_a_line_is_read(tmp_path: Path) -> None:
    read(tmp_path, images=("a.png", "b.png"))
    tasks = task(annotation(box("caf\u2028"))), task(annotation(box()), image="b.png", key=2)
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n\n".join(json.dumps(one, ensure_ascii=False) for one in tasks))
    dataset = read_label_studio(path, None, SourceLog())
    assert [len(dataset.on(record)) for record in dataset.records] == [1, 1]
    path.write_text(path.read_text() + "\n{")
    with pytest.raises(DataError, match=r"tasks\.jsonl: line 4: EOF"):
        read_label_studio(path, None, SourceLog())


def test_a_folder_of_several_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(DataError, match=r"holds several JSON files \(a\.json, b\.json\)"):
        read_label_studio(tmp_path, None, SourceLog())


def test_photos_may_lie_beside_the_file(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / "in" / "export.json").write_text(json.dumps([task(annotation(box()))]))
    found = import_labels(tmp_path / "in", "label-studio", tmp_path / "out", ExportConfig())
    assert (found.images, found.objects, found.source.read) == (1, 1, 1)


def test_strict_refuses_what_would_be_left_out(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / "in" / "export.json").write_text(json.dumps([task(FIRST, SECOND)]))
    with pytest.raises(DataError, match="another annotation of the task"):
        import_labels(tmp_path / "in", "label-studio", tmp_path / "out", ExportConfig(strict=True))
