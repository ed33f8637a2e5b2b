"""Combine and label, on bright blocks that a segmenter finds by their brightness."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from calibrated import Home, calibrated
from pycocotools.coco import COCO

from pipeline.config.schema import CombineConfig, SegmentConfig
from pipeline.errors import ConfigError, DataError, WeightsError
from pipeline.formats.coco import read_coco
from pipeline.models.artifact import CARD, TENSORS
from pipeline.models.segmentation import model as segmenter_model
from pipeline.models.segmentation.defect_map import DefectMap, RegionOptions
from pipeline.models.segmentation.model import DefectSegmenter, Member
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.stages.combine import CombineResult, combine
from pipeline.stages.label import label
from pipeline.types import EXPECTED_IOU, PROBABILITY, Image


def map_of(_: object, image: Image, *__: object) -> DefectMap:
    """Bright is a defect; on every photo there is a false candidate of a probability of 0.55."""
    bright = image.mean(axis=2)
    defect = np.where(bright > 120, 240, 0).astype(np.uint8)
    defect[40:44, 2:6] = 140
    return DefectMap(defect, np.zeros_like(defect), 1)


def segmenter(folder: Path, data: Path) -> Path:
    """A segmenter that pretends to have learned from the photos in two folds."""
    known = read_coco(data / "annotations" / "instances.json", data / "images")
    groups = sorted({record.group or record.file_name for record in known.records})
    torch.manual_seed(0)
    members = [
        Member(SegmentationNetwork(NetworkOptions("mobilenet_v2", 1)), frozenset(groups[n::2]))
        for n in range(2)
    ]
    options = RegionOptions(0.5, 0, 1)
    model = DefectSegmenter(members, known.categories, 1.0, options, 0.7, torch.device("cpu"))
    folder.mkdir(parents=True)
    model.save(folder, {})
    return folder


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def bright_maps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_model, "predict_map", map_of)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return calibrated(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def network(home: Home) -> Path:
    return segmenter(home.data.parent / "segmenter", home.data)


@pytest.fixture(scope="module")
def labeller(home: Home, network: Path) -> tuple[Path, CombineResult]:
    folder = home.data.parent / "labeller"
    config = CombineConfig(sam="")
    return folder, combine(home.data, network, folder, config, device="cpu")


def other_figures(folder: Path) -> dict[str, object]:
    """The calibration of a labeller, with another name for its first figure."""
    fit: dict[str, object] = json.loads((folder / CARD).read_text())["probability"]
    names = fit["names"]
    assert isinstance(names, list)
    return {**fit, "names": ["nothing", *names[1:]]}


def test_labels_out_of_fold_tell_defects_from_false_candidates(
    labeller: tuple[Path, CombineResult],
) -> None:
    folder, result = labeller
    assert (result.photos, result.candidates) == (18, 12 + 18)
    assert result.labels is not None
    assert result.labels.false_labels == 0
    assert result.labels.found == 12
    assert result.expected_iou is not None
    assert result.expected_iou.error[0] < 0.1
    assert json.loads((folder / CARD).read_text())["kind"] == "labeller"
    assert (folder / "reliability_found.png").is_file()


def test_label_writes_masks_with_what_to_expect_of_them(
    home: Home, labeller: tuple[Path, CombineResult], tmp_path: Path
) -> None:
    truth = home.data / "annotations" / "instances.json"
    made = label(labeller[0], home.data / "images", tmp_path / "l", truth=truth, device="cpu")
    assert made.labels.labels == 12
    assert made.labels.quality is not None
    assert made.labels.quality.label_iou is not None
    assert made.labels.quality.label_iou > 0.9
    rows = COCO(str(tmp_path / "l" / "instances.json"))
    assert len(rows.anns) == 12
    for row in rows.anns.values():
        assert row[EXPECTED_IOU] > 0.7
        assert row[PROBABILITY] > 0.7
        assert row["area"] == row["bbox"][2] * row["bbox"][3]
    assert all("missed_probability" in image for image in rows.dataset["images"])
    again = label(labeller[0], home.data / "images", tmp_path / "m", device="cpu")
    assert again.labels.labels == 12  # the folder's images, without a list


def test_a_wish_moves_the_confidence(
    home: Home, labeller: tuple[Path, CombineResult], tmp_path: Path
) -> None:
    config = SegmentConfig(false_alarms=5.0)
    made = label(labeller[0], home.data / "images", tmp_path / "l", config, device="cpu")
    assert 12 < made.labels.labels <= 12 + 18
    assert made.labels.operating_point is not None
    assert made.labels.operating_point.confidence < labeller[1].confidence


def test_every_finder_is_tried_and_copied_where_it_gains(
    home: Home, network: Path, tmp_path: Path
) -> None:
    config = CombineConfig(sam=str(home.sam), backend="torch", cache_gb=0)
    result = combine(
        home.data, network, tmp_path / "all", config, detector=home.detector, device="cpu"
    )
    assert set(result.gains) == {"sam", "detector"}
    for finder in ("sam", "detector"):
        assert (tmp_path / "all" / finder).is_dir() == (finder in result.finders)


def test_too_few_photos_leave_the_segmenters_own_labels(
    home: Home, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.proposals.fit.MIN_CANDIDATES", 1000)
    result = combine(home.data, network, tmp_path / "few", CombineConfig(sam=""), device="cpu")
    assert result.labels is None
    assert result.confidence == 0.7
    made = label(tmp_path / "few", home.data / "images", tmp_path / "l", device="cpu")
    assert made.labels.labels == 12  # those with a mean probability of 0.7
    assert made.labels.expected_iou_mean is None
    alone = label(network, home.data / "images", tmp_path / "a", device="cpu")
    assert (alone.labels.labels, alone.labels.finders) == (12, ("segmenter",))
    assert alone.labels.operating_point is None
    with pytest.raises(ConfigError, match="needs a labeller that combine could calibrate"):
        wish = SegmentConfig(recall=0.9)
        label(network, home.data / "images", tmp_path / "w", wish, device="cpu")
    with pytest.raises(DataError, match="holds no model; give a folder of combine"):
        label(tmp_path / "nowhere", home.data / "images", tmp_path / "n", device="cpu")


def test_a_network_that_learned_from_all_photos_is_refused(home: Home, tmp_path: Path) -> None:
    one = segmenter(tmp_path / "one", home.data)
    card = json.loads((one / CARD).read_text())
    card["unseen"] = [[], []]
    (one / CARD).write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="learned from all photos; train it again"):
        combine(home.data, one, tmp_path / "l", CombineConfig(sam=""), device="cpu")


def test_a_changed_model_is_refused(
    home: Home, labeller: tuple[Path, CombineResult], network: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(labeller[0], tmp_path / "copy")
    (copy / "segmenter" / TENSORS).write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"is not what card\.json names"):
        label(copy, home.data / "images", tmp_path / "l", device="cpu")
    copy = shutil.copytree(labeller[0], tmp_path / "other")
    for key, value, text in (
        ("categories", ["dent"], "names other categories than its segmenter"),
        ("probability", other_figures(copy), "names figures that it has not: 'nothing'"),
    ):
        card = json.loads((labeller[0] / CARD).read_text())
        (copy / CARD).write_text(json.dumps({**card, key: value}))
        with pytest.raises(WeightsError, match=text):
            label(copy, home.data / "images", tmp_path / "l", device="cpu")
    card = json.loads((labeller[0] / CARD).read_text())
    card["sha256"]["segmenter"] = "0" * 64
    (copy / CARD).write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r"is not what card\.json names; combine again"):
        label(copy, home.data / "images", tmp_path / "l", device="cpu")
    with pytest.raises(ConfigError, match="has its own SAM"):
        config = SegmentConfig(heatmaps=tmp_path)
        label(labeller[0], home.data / "images", tmp_path / "l", config, device="cpu")
    with pytest.raises(DataError, match="is of kind trust, no labeller"):
        from pipeline.proposals.card import read_labeller

        read_labeller(home.trust)
