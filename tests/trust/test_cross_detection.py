from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import ConvertConfig
from pipeline.formats.yolo_training import TrainingSet, read_training_set
from pipeline.geometry.boxes import as_boxes
from pipeline.io.manifest import WORK
from pipeline.io.write import make_folder
from pipeline.stages.convert_masks import convert_masks
from pipeline.trust.cross_detection import (
    OUT_OF_FOLD,
    detect_out_of_fold,
    learned_images,
    same_steps,
)
from pipeline.types import Dataset, Detections, Image

MakeProduct = Callable[..., Path]
CATEGORIES = ("crack", "stain")


@pytest.fixture
def splits(make_product: MakeProduct, tmp_path: Path) -> TrainingSet:
    """16 photos of defects and 10 good ones; 18 of them in train, 4 in val, 4 in test."""
    product = make_product({"crack": 8, "stain": 8}, good_train=8)
    convert_masks([product], tmp_path / "data", ConvertConfig(group_by="none"))
    return read_training_set(tmp_path / "data")


class Memory:
    """Learns the names of its photos by heart: on any image it finds a box of their number."""

    categories: tuple[str, ...] = CATEGORIES

    def __init__(self, part: TrainingSet) -> None:
        self.train = {record.file_name for record in part.train.records}
        self.val = {record.file_name for record in part.val.records}

    def detect(self, image: Image) -> Detections:
        score = np.array([len(self.train) / 100], np.float32)
        return Detections(as_boxes([[1, 2, 3, 5]]), np.array([1]), score)

    def heatmap(self, image: Image) -> None: ...


def names(dataset: Dataset) -> set[str]:
    return {record.file_name for record in dataset.records}


def test_too_few_photos_of_defects_leave_no_file(splits: TrainingSet, tmp_path: Path) -> None:
    good = [r for r in splits.train.records if not len(splits.train.on(r))]
    train = splits.train.subset(good)
    bare = replace(splits, train=train, val=train, validation=None)
    assert detect_out_of_fold(tmp_path, bare, CATEGORIES, 2, 0, never) is None
    assert not (tmp_path / OUT_OF_FOLD).exists()


def never(folder: Path, part: TrainingSet) -> Memory:
    raise AssertionError("nothing is learned")


def test_each_photo_is_searched_by_a_detector_that_did_not_learn_from_it(
    splits: TrainingSet, tmp_path: Path
) -> None:
    learned: list[Memory] = []

    def learn(folder: Path, part: TrainingSet) -> Memory:
        assert part.val is part.train or not names(part.val) & names(part.train)
        learned.append(Memory(part))
        return learned[-1]

    make_folder(tmp_path / "run" / WORK)
    found = detect_out_of_fold(tmp_path / "run", splits, CATEGORIES, 3, 0, learn)
    assert found is not None
    images = learned_images(splits)
    assert names(found) == names(images) == names(splits.train) | names(splits.val)
    assert len(learned) == 3
    known = [memory.train | memory.val for memory in learned]
    for record in found.records:  # by one detector alone, which the number of its photos tells
        scores = found.on(record).scores
        assert scores is not None and len(scores) == 1
        unknown = [m for m, own in zip(learned, known, strict=True) if record.file_name not in own]
        assert len(unknown) == 1
        assert scores[0] == pytest.approx(len(unknown[0].train) / 100)
    for memory in learned:  # good photos and both categories are spread
        held = names(images) - memory.train - memory.val
        assert {name.split("_")[2] for name in held} >= {"crack", "stain", "good"}, held


def test_a_part_of_the_images_is_learned_in_as_many_steps(splits: TrainingSet) -> None:
    half = splits.train.subset(splits.train.records[: len(splits.train.records) // 2])
    assert same_steps(15, splits, splits) == 15
    ratio = len(splits.train.records) / len(half.records)
    assert same_steps(15, splits, replace(splits, train=half)) == round(15 * ratio)


def test_a_run_that_was_stopped_in_a_fold_goes_on_with_that_fold(
    splits: TrainingSet, tmp_path: Path
) -> None:
    done: list[Path] = []

    def learn(folder: Path, part: TrainingSet) -> Memory:
        assert folder.is_dir()
        done.append(folder)
        (folder / "epoch").write_text("1")
        if len(done) == 2:
            raise KeyboardInterrupt
        return Memory(part)

    run = tmp_path / "run"
    make_folder(run / WORK)
    with pytest.raises(KeyboardInterrupt):
        detect_out_of_fold(run, splits, CATEGORIES, 2, 0, learn)
    assert not (run / WORK / "fold_0").exists()  # its detections are kept
    assert (run / WORK / "fold_1" / "epoch").is_file()
    assert not (run / OUT_OF_FOLD).exists()
    detect_out_of_fold(run, splits, CATEGORIES, 2, 0, learn)
    assert [folder.name for folder in done] == ["fold_0", "fold_1", "fold_1"]
    assert not (run / WORK / "fold_1").exists()
    rows = json.loads((run / OUT_OF_FOLD).read_text())["annotations"]
    assert len(rows) == len(learned_images(splits).records)
    assert {tuple(row["bbox"]) for row in rows} == {(1, 2, 2, 3)}
