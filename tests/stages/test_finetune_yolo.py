from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import draw_product, narrow_yolo_world

from pipeline.config.schema import ConvertConfig, FinetuneConfig
from pipeline.errors import ConfigError, DataError, WeightsError
from pipeline.formats.yolo_training import read_training_set
from pipeline.io.read import read_json
from pipeline.io.write import write_json
from pipeline.models.weights.store import WeightsStore
from pipeline.models.yolo_world import trainer as world_trainer
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.finetune_yolo import FinetuneYoloResult, finetune_yolo

TINY = FinetuneConfig(epochs=2, image_side=64, batch=4, mosaic=0.0)
THREE = FinetuneConfig(epochs=3, image_side=64, batch=4, close_mosaic=1, workers=1)


@pytest.fixture(scope="module", autouse=True)
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with narrow_yolo_world(tmp_path_factory.mktemp("weights")):
        yield


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("converted")
    product = draw_product(home / "product", good_train=2, good_test=1)
    convert_masks([product], home / "data", ConvertConfig(folds=2))
    return home / "data"


@pytest.fixture
def data(converted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted, tmp_path / "data"))


def stopped(data: Path, output: Path, where: int | str = 1, config: FinetuneConfig = TINY) -> Path:
    """A training that was killed after so many epochs, or at its end; its unfinished folder."""
    ended: list[object] = []

    def killed(*_: object) -> None:
        ended.append(None)
        if where in ("end", len(ended)):
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if where != "end":
            patch.setattr(world_trainer._Bar, "on_fit_epoch_end", killed)
        else:
            patch.setattr(world_trainer, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune_yolo(data, output, config, device="cpu")
    return output.with_name(f".{output.name}.unfinished")


def numbers(checkpoint: Path) -> list[bytes]:
    """All of a checkpoint but its dates."""
    with zipfile.ZipFile(checkpoint) as archive:
        return [archive.read(name) for name in sorted(archive.namelist()) if "/data/" in name]


@pytest.fixture(scope="module")
def undisturbed(
    converted: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, FinetuneYoloResult]:
    """Data, a training of it that nobody stopped, and its summary. Three epochs with mosaics, which
    the last one does without."""
    home = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(converted, home / "data")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)  # more than ultralytics leaves on two cores
    try:
        found = finetune_yolo(home / "data", home / "run", THREE, device="cpu")
        assert torch.get_num_threads() == 3, "what follows in a run would use fewer cores"
    finally:
        torch.set_num_threads(threads)
    return home / "data", home / "run", found


@pytest.fixture(scope="module")
def begun(converted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data, and the unfinished folder of a training of TINY that was stopped after an epoch."""
    home = tmp_path_factory.mktemp("begun")
    shutil.copytree(converted, home / "data")
    return home / "data", stopped(home / "data", home / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("where", "done"), [(1, 1), (2, 2), ("end", 2)])
def test_a_stopped_training_ends_with_the_same_bytes(
    undisturbed: tuple[Path, Path, FinetuneYoloResult], tmp_path: Path, where: int | str, done: int
) -> None:
    data, whole, expected = undisturbed
    run = tmp_path / "run"
    unfinished = stopped(data, run, where, THREE)
    assert not run.exists()
    assert world_trainer.epochs_done(unfinished) == done
    (data / "labels" / "train.cache").write_bytes(b"left by somebody")  # no part of the inputs
    found = finetune_yolo(data, run, THREE, device="cpu")
    assert found == replace(expected, output=run)
    assert found.epochs_run == 3
    assert not unfinished.exists()
    weights = run / "train" / "weights"
    assert {path.name for path in weights.iterdir()} == {"last.pt", "best.pt"}
    for path in weights.iterdir():
        assert numbers(path) == numbers(whole / "train" / "weights" / path.name)
    assert world_trainer.epochs_done(run) is None


@pytest.mark.parametrize("module", ["stock_training", "stock_validation"])
def test_a_picture_is_there_when_the_training_goes_on(tmp_path: Path, module: str) -> None:
    labels = {"cls": torch.zeros(1), "bboxes": torch.full((1, 4), 0.5), "batch_idx": torch.zeros(1)}
    images = torch.zeros(1, 3, 64, 64)
    getattr(world_trainer, module).plot_images({**labels, "img": images}, fname=tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").is_file()


@pytest.mark.slow
def test_a_finished_training_is_not_repeated_and_not_lost(
    undisturbed: tuple[Path, Path, FinetuneYoloResult],
) -> None:
    data, run, expected = undisturbed
    (run / ".work" / "dataset").mkdir(parents=True)  # of a kill in the last moment
    before = (run / "run.json").read_bytes()
    assert finetune_yolo(data, run, THREE, device="cpu") == expected
    assert (run / "run.json").read_bytes() == before
    assert not (run / ".work").exists()
    with pytest.raises(ConfigError, match="holds a finished run of other settings"):
        finetune_yolo(data, run, TINY, device="cpu")


@pytest.mark.slow
def test_folds_search_every_image_and_go_on_after_a_stop_in_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learned is left out: each training ends with the weights that it started from."""
    runs: list[str] = []

    def learned(run: Path, yaml: Path, weights: Path, *_: object) -> None:
        runs.append(run.name)
        if run.name == "fold_1" and runs.count("fold_1") == 1:
            raise KeyboardInterrupt
        (run / "train" / "weights").mkdir(parents=True, exist_ok=True)
        (run / "train" / "results.csv").write_text("epoch,train/loss,metrics/mAP50(B)\n1,1,0\n")
        shutil.copy(weights, run / "train" / "weights" / "best.pt")

    monkeypatch.setattr(world_trainer, "train", learned)
    config = TINY.model_copy(update={"folds": 2})
    with pytest.raises(KeyboardInterrupt):
        finetune_yolo(data, tmp_path / "run", config, device="cpu")
    found = finetune_yolo(data, tmp_path / "run", config, device="cpu")
    folds = [name for name in runs if name.startswith("fold")]
    assert folds == ["fold_0", "fold_1", "fold_1"]
    listed = [json.loads((data / "annotations" / f"instances_{split}.json").read_text())
              for split in ("train", "val")]  # fmt: skip
    names = {image["file_name"] for each in listed for image in each["images"]}
    kept = json.loads((tmp_path / "run" / "out_of_fold.json").read_text())
    assert {image["file_name"] for image in kept["images"]} == names
    assert found.out_of_fold is not None
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    boxes = sum(len(each["annotations"]) for each in listed)
    on = {"images": len(names), "boxes": boxes} if found.confidence_chosen_on else None
    assert card["confidence_chosen_on"] == on  # None where noise has no right box
    assert not (tmp_path / "run" / ".work").exists()


def test_one_fold_is_refused_before_anything_is_learned(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folds 1: at least 2 are needed"):
        finetune_yolo(data, tmp_path / "run", TINY.model_copy(update={"folds": 1}), device="cpu")


@pytest.mark.slow
def test_a_stopped_training_is_not_dropped_for_other_settings(
    begun: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = begun[0], tmp_path / "run"
    unfinished = Path(shutil.copytree(begun[1], tmp_path / begun[1].name))
    other = TINY.model_copy(update={"epochs": 1})
    with pytest.raises(DataError, match=r"was stopped.*--overwrite"):
        finetune_yolo(data, run, other, device="cpu", replace_finished=True)
    assert (unfinished / "train" / "weights" / "last.pt").is_file()
    assert finetune_yolo(data, run, other, device="cpu", overwrite=True).epochs_run == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train/weights/last.pt", ".work/training.bin"])
def test_a_damaged_checkpoint_is_one_line_and_overwrite_is_the_way_out(
    begun: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    data, run = begun[0], tmp_path / "run"
    checkpoint = Path(shutil.copytree(begun[1], tmp_path / begun[1].name)) / name
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"is damaged.*--overwrite"):
        finetune_yolo(data, run, TINY, device="cpu")
    assert finetune_yolo(data, run, TINY, device="cpu", overwrite=True).epochs_run == 2


def test_a_run_that_could_not_begin_leaves_nothing_and_loses_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(self: WeightsStore, name: str) -> None:
        raise WeightsError(f"weights {name} cannot be fetched")

    monkeypatch.setattr(WeightsStore, "get", unreachable)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(WeightsError):
        finetune_yolo(data, tmp_path / "run", TINY, device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_persons_file_in_a_finished_run_is_never_lost(
    undisturbed: tuple[Path, Path, FinetuneYoloResult], tmp_path: Path
) -> None:
    data, run = undisturbed[0], Path(shutil.copytree(undisturbed[1], tmp_path / "run"))
    (run / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        finetune_yolo(data, run, TINY, device="cpu", overwrite=True)
    assert (run / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("gone", "train", "val", "truth", "validation"),
    [
        ((), "train", "val", "test", "val"),
        (("val",), "train", "test", "test", None),
        (("test",), "train", "val", "val", "val"),
        (("val", "test"), "train", "train", "train", None),
        (("train", "val"), "test", "test", "test", None),
        (("train", "test"), "val", "val", "val", "val"),
    ],
)
def test_another_part_serves_where_one_is_missing(
    data: Path, gone: tuple[str, ...], train: str, val: str, truth: str, validation: str | None
) -> None:
    for part in gone:
        (data / "annotations" / f"instances_{part}.json").unlink()
    found = read_training_set(data)
    named = (found.train, found.val, found.truth, found.validation)
    parts = [None if chosen is None else chosen.records[0].split for chosen in named]
    assert parts == [train, val, truth, validation]


def test_a_fold_is_learned_and_judged_by_itself(data: Path) -> None:
    found = read_training_set(data, 1)
    names = [{record.file_name for record in part.records} for part in (found.train, found.val)]
    assert not names[0] & names[1]
    assert found.truth is found.val is found.validation


@pytest.mark.parametrize(
    ("fold", "name"), [(None, "instances_train"), (7, "instances_fold7_train")]
)
def test_a_folder_of_something_else_is_one_line(
    tmp_path: Path, fold: int | None, name: str
) -> None:
    with pytest.raises(DataError, match=rf"{name}\.json: no such file; give the folder"):
        read_training_set(tmp_path, fold)


def test_images_of_another_size_or_gone_are_one_line(data: Path) -> None:
    path = data / "annotations" / "instances_val.json"
    content = read_json(path)
    image = data / "images" / content["images"][0]["file_name"]
    write_json(path, content | {"images": [{**content["images"][0], "height": 40}]}
               | {"annotations": []})  # fmt: skip
    with pytest.raises(DataError, match="is 64x48, but listed as 64x40"):
        read_training_set(data)
    image.unlink()
    with pytest.raises(DataError, match="no such image"):
        read_training_set(data)
