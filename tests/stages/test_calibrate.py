"""Calibrate and use of it, on bright blocks that a detector finds, with a false alarm on each
photo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibrated import NO_DEFECT, Home, calibrated, config_of
from pydantic import ValidationError

from pipeline.config.schema import ExportConfig, SegmentConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco
from pipeline.geometry.boxes import as_boxes
from pipeline.io.write import write_json
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models import load
from pipeline.models.sam.model import CARD
from pipeline.runtime.progress import set_quiet
from pipeline.stages import calibrate as stage
from pipeline.stages.calibrate import calibrate
from pipeline.stages.export_labels import export_labels
from pipeline.stages.segment import SegmentResult, segment
from pipeline.trust.card import detector_sha256, read_trust
from pipeline.trust.cross_detection import OUT_OF_FOLD
from pipeline.trust.found_masks import FoundImage
from pipeline.types import Detections, Image

Label = Callable[..., SegmentResult]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return calibrated(tmp_path_factory.mktemp("home"))


def test_found_masks_are_calibrated_and_false_alarms_count(home: Home) -> None:
    result = home.result
    assert (result.images, result.defects, result.masks) == (18, 12, 12 + 18)
    assert result.expected_iou is not None
    assert result.from_true_boxes is not None
    assert result.expected_iou.unmatched >= 18
    assert result.from_true_boxes.expected == pytest.approx(0.5, abs=0.01)  # of no weight at all
    assert result.expected_iou.error[0] < result.from_true_boxes.error[0]
    assert result.probability is not None
    assert result.probability.brier < result.probability.chance
    assert result.recall is not None
    card = json.loads((home.trust / CARD).read_text())
    assert card["kind"] == "trust"
    for picture in ("reliability_found.png", "operating_points.png"):
        assert (home.trust / picture).is_file()


def test_a_trust_of_another_pair_is_refused(home: Home) -> None:
    pair = detector_sha256(home.detector), json.loads((home.sam / CARD).read_text())["delta_sha256"]
    assert len(read_trust(home.trust, *pair).outcomes) == 18
    with pytest.raises(ConfigError, match="belongs to another detector than is given"):
        read_trust(home.trust, "0" * 64, pair[1])
    with pytest.raises(ConfigError, match="belongs to another SAM than is given"):
        read_trust(home.trust, pair[0], "0" * 64)
    with pytest.raises(ConfigError, match="is of kind sam, no trust"):
        read_trust(home.sam, *pair)


def test_too_few_masks_get_no_calibration(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_quiet(False)
    outcome = ImageOutcome("g", (0.5,), (), (0.5,))
    monkeypatch.setattr(stage, "measure", lambda *_: FoundImage((), outcome))
    result = calibrate(home.data, home.detector, tmp_path / "t", config_of(home.sam), device="cpu")
    assert result.expected_iou is None
    assert result.probability is None
    assert "0 masks on 0 photos are too few to calibrate: at least 20" in capsys.readouterr().err
    card = json.loads((tmp_path / "t" / CARD).read_text())
    assert (card["expected_iou"], card["probability"]) == (None, None)


def test_a_stopped_calibration_goes_on_with_the_images_that_are_left(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def stopped(*arguments: Any) -> FoundImage:
        measured.append(arguments[4])
        if len(measured) == 5:
            raise KeyboardInterrupt
        return FoundImage((), ImageOutcome(arguments[4]))

    monkeypatch.setattr(stage, "measure", stopped)
    call = partial(calibrate, home.data, home.detector, tmp_path / "t", config_of(home.sam))
    with pytest.raises(KeyboardInterrupt):
        call(device="cpu")
    assert (call(device="cpu").images, len(measured)) == (18, 18 + 1)
    assert measured[4] == measured[5]


def test_models_without_folds_and_other_data_are_refused(home: Home, tmp_path: Path) -> None:
    found, own = (
        Path(shutil.copytree(path, tmp_path / path.name)) for path in (home.detector, home.sam)
    )
    call = partial(calibrate, home.data, found, tmp_path / "t", config_of(own), device="cpu")
    card = json.loads((own / CARD).read_text())
    write_json(own / CARD, {**card, "folds": []})
    with pytest.raises(ConfigError, match="keeps no SAM that did not learn from the photos"):
        call()
    listed = json.loads((found / OUT_OF_FOLD).read_text())
    listed["images"][0]["file_name"] = "train/other.png"
    write_json(found / OUT_OF_FOLD, listed)
    with pytest.raises(DataError, match=r"lists train/other\.png, which is not in train or val"):
        call()
    (found / OUT_OF_FOLD).unlink()
    with pytest.raises(ConfigError, match=r"has no out-of-fold detections.*--folds 2"):
        call()


class Finds:
    """A detector that finds a block at 0.6 or less, and a false alarm."""

    categories: tuple[str, ...] = ("crack",)

    def detect(self, image: Image) -> Detections:
        bright = image.max(axis=2) > 120
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        block = [(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)] if len(rows) else []
        scores = np.array([0.6] * len(block) + [0.29], np.float32)
        return Detections(as_boxes([*block, NO_DEFECT]), np.zeros(len(scores), np.int64), scores)

    def heatmap(self, image: Image) -> None: ...


@pytest.fixture
def label(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Label:
    """Labels the photos with that detector, with the trust unless another is given."""
    monkeypatch.setattr(load, "load_detector", lambda *_: Finds())

    def call(way: dict[str, object], trust: Path | None = home.trust) -> SegmentResult:
        given = {"sam": str(home.sam), "backend": "torch", "overlays": False, "review": 0}
        config = SegmentConfig.model_validate({**given, **way})
        number = len(list(tmp_path.iterdir()))
        return segment(
            home.data / "images", tmp_path / f"out{number}", config, device="cpu",
            detector=home.detector, trust=trust,
        )  # fmt: skip

    return call


def test_found_labels_carry_what_is_known_of_them(home: Home, label: Label, tmp_path: Path) -> None:
    result = label({"confidence": 0.2})
    labels = result.output / "instances.json"
    made = json.loads(labels.read_text())
    sure = [row for row in made["annotations"] if row["score"] > 0.5]
    false = [row for row in made["annotations"] if row["score"] < 0.5]
    assert (len(sure), len(false)) == (12, 18)
    assert {row["finder"] for row in made["annotations"]} == {"detector"}
    for name in ("expected_iou", "probability"):
        least = min(row[name] for row in sure)
        assert least > max(row[name] for row in false) > 0
    assert all(0 < image["missed_probability"] < 0.5 for image in made["images"])
    assert result.operating_point is not None
    assert result.operating_point.confidence == 0.2
    read = read_coco(labels, home.data / "images")
    assert "expected_iou" in read.on(read.records[0]).confidence_columns
    below = ExportConfig(below=min(row["expected_iou"] for row in sure))
    images = home.data / "images"
    exported = export_labels(labels, "coco", tmp_path / "doubtful", below, images=images)
    assert exported.images == 18  # each has a false alarm, of a lower expected IoU


@pytest.mark.slow
def test_a_wish_chooses_the_confidence_and_says_when_it_cannot_be_reached(
    home: Home,
    label: Label,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All defects score 0.5 or more, and false alarms a half of that: up to 0.34."""
    set_quiet(False)
    ways: dict[str, dict[str, object]] = {
        "--recall 1": {"recall": 1},
        "--false-alarms 0": {"false_alarms": 0},
        "--cost 5:1": {"cost": "5:1"},
    }
    for option, way in ways.items():
        assert label(way).boxes == 12, option
        assert f"{option}: confidence 0.5" in capsys.readouterr().err
    card = json.loads((home.trust / CARD).read_text())
    for image in card["images"]:
        image["found_at"] = [0.0 for _ in image["found_at"]]
    write_json(tmp_path / "blind" / CARD, card)
    label({"recall": 0.9}, tmp_path / "blind")
    assert "--recall 0.9 cannot be reached; the nearest: confidence 0.2" in capsys.readouterr().err


def test_without_a_trust_found_boxes_have_no_expected_iou_and_true_ones_keep_theirs(
    home: Home,
    label: Label,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_quiet(False)
    said = "masks of found boxes have no expected IoU: `pipeline calibrate` measures it"
    config = SegmentConfig(sam=str(home.sam), backend="torch", overlays=False)
    boxes = home.data / "annotations" / "instances_val.json"
    segment(home.data / "images", tmp_path / "true", config, device="cpu", boxes=boxes)
    assert said not in capsys.readouterr().err
    found = label({}, None)
    assert said in capsys.readouterr().err
    for folder, has in ((tmp_path / "true", True), (found.output, False)):
        rows = json.loads((folder / "instances.json").read_text())["annotations"]
        assert {"expected_iou" in row for row in rows} == {has}


@pytest.mark.parametrize(
    ("wish", "given", "message"),
    [
        ({"recall": 0.9}, (), "--recall 0.9 needs --trust"),
        ({}, ("trust",), "--trust is of labels that a detector finds; add --detector"),
        ({"views": {"tta": 2}}, ("trust", "detector"), "--trust is of SAM's own views"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    tmp_path: Path, wish: dict[str, Any], given: tuple[str, ...], message: str
) -> None:
    config = SegmentConfig.model_validate(wish)
    paths = {name: tmp_path / name if name in given else None for name in ("trust", "detector")}
    with pytest.raises(ConfigError, match=message):
        segment(
            tmp_path, tmp_path / "out", config, trust=paths["trust"], detector=paths["detector"]
        )


def test_two_wishes_are_refused() -> None:
    with pytest.raises(ValidationError, match="--recall and --cost are not given together"):
        SegmentConfig(recall=0.9, cost="5:1")
    with pytest.raises(ValidationError, match="cost"):
        SegmentConfig(cost="5")
