"""Folders of models that somebody mailed: every card, and every file that it names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_models import (
    CPU,
    Opener,
    autoencoder,
    by_anomaly,
    by_classifier,
    by_segmenter,
    classifier,
    hashed_once,
    patchcore,
    refused,
    rewrite,
    segmenter,
    tuned,
    write_again,
)

from pipeline.errors import DataError, PipelineError, WeightsError
from pipeline.geometry.boxes import as_boxes
from pipeline.geometry.masks import from_box
from pipeline.io.read import sha256_of
from pipeline.metrics.operating_points import ImageOutcome
from pipeline.models.anomaly.detector import load_anomaly_detector, load_anomaly_model
from pipeline.models.anomaly.thresholds import THRESHOLDS_FILE
from pipeline.models.artifact import CARD, read_artifact
from pipeline.models.export import build_graph
from pipeline.models.load import load_detector, load_model
from pipeline.models.sam.calibration import Calibration
from pipeline.models.sam.model import load_sam
from pipeline.models.sam.old_card import OLD_CARD
from pipeline.models.text.embeddings import TextEmbeddings
from pipeline.models.yolo_world.detector import (
    embeddings_file,
    load_finetuned,
    load_yolo_world,
)
from pipeline.trust.card import Trust, read_trust, write_trust
from pipeline.types import Detections, Masks

NO_CARD: dict[str, Any] = {
    "empty": b"",
    "a list": [],
    "null": None,
    "a text": "card",
    "a number": 5,
    "nothing in it": {},
    "a list of cards": [{"kind": "classifier"}],
    "not JSON": b"{",
    "nested without end": b"[" * 100_000,
    "a number of 5,000 digits": b'{"kind": ' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"kind": "\xff"}',
    "a kind that is a list": {"kind": [], "sha256": "0" * 64},
    "a kind that is not known": {"kind": "oracle", "sha256": "0" * 64},
    "a kind alone": {"kind": "classifier"},
    "a hash that is a number": {"kind": "classifier", "sha256": 5},
}
WRONG: list[Any] = [None, [], {}, "text", -1, 0, 1e300, float("nan"), 10**400, True, "../x"]


@pytest.fixture(scope="module", autouse=True)
def _hashed_once() -> Iterator[None]:
    with hashed_once():
        yield


def open_or_one_line(opened: Opener, folder: Path) -> None:
    try:
        opened(folder)
    except PipelineError as error:
        assert "\n" not in str(error)


def detector(folder: Path) -> None:
    (folder / "best.pt").write_bytes(b"no checkpoint")
    card = {"kind": "yolo-world", "checkpoint": "best.pt",
            "sha256": sha256_of(folder / "best.pt"), "image_side": 64,
            "confidence": 0.5, "base": "yolov8s-world"}  # fmt: skip
    (folder / CARD).write_text(json.dumps(card))
    vectors = np.eye(2, 512, dtype=np.float32)
    TextEmbeddings(("a", "b"), vectors, "fixed").save(embeddings_file(folder))


def tuned_by_0_7(folder: Path) -> None:
    """The same with the keys of version 0.7."""
    tuned(folder)
    card = json.loads((folder / CARD).read_text())
    card["looks"], card["memory"] = card.pop("views"), card.pop("patch_prior")
    card["calibration"]["kinds"] = card["calibration"].pop("categories")
    card.pop("kind")
    (folder / CARD).unlink()
    (folder / OLD_CARD).write_text(json.dumps(card))


def by_thresholds(folder: Path) -> object:
    return load_anomaly_detector(folder, CPU).detect(np.zeros((40, 40, 3), np.uint8))


def by_detector(folder: Path) -> object:
    return load_detector(folder, "cpu")


def by_sam(folder: Path) -> object:
    return load_sam(str(folder))


def trust(folder: Path) -> None:
    fit = Calibration(("box_score",), np.zeros(1), np.ones(1), ("crack",), np.zeros(3), 30)
    outcomes = tuple(ImageOutcome(str(n), (0.5,), (0.2,), (0.5, 0.2)) for n in range(12))
    write_trust(folder, Trust("0" * 64, "1" * 64, 0.3, fit, fit, outcomes))


def by_trust(folder: Path) -> object:
    known = read_trust(folder, "0" * 64, "1" * 64)
    masks = Masks((from_box(np.array([0, 0, 4, 4], np.float32), 9, 9),), np.zeros(1, bool), {})
    found = Detections(as_boxes([[0, 0, 4, 4]]), np.array([0]), np.ones(1, np.float32))
    known.add_quality(masks, found, ["crack"])
    return known.missed(0.3)


SETS: dict[str, tuple[Callable[[Path], None], str, Opener]] = {
    "autoencoder": (autoencoder, CARD, by_anomaly),
    "thresholds": (autoencoder, THRESHOLDS_FILE, by_thresholds),
    "patchcore": (patchcore, CARD, by_anomaly),
    "classifier": (classifier, CARD, by_classifier),
    "segmenter": (segmenter, CARD, by_segmenter),
    "detector": (detector, CARD, by_detector),
    "tuned SAM": (tuned, CARD, by_sam),
    "SAM tuned by 0.7": (tuned_by_0_7, OLD_CARD, by_sam),
    "trust": (trust, CARD, by_trust),
}


@pytest.fixture(params=[*SETS.values()], ids=[*SETS])
def mailed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Opener]:
    """A card as it was written, in its folder, and what opens that."""
    write, card, opened = request.param
    write_again(write, tmp_path)
    return tmp_path / card, opened


def test_a_folder_as_it_was_written_is_opened(mailed: tuple[Path, Opener]) -> None:
    card, opened = mailed
    if opened is by_detector:  # whose checkpoint is none
        assert "is not a YOLO checkpoint" in refused(opened, card.parent)
    else:
        opened(card.parent)


@pytest.mark.parametrize("content", NO_CARD.values(), ids=NO_CARD.keys())
def test_a_card_that_is_none_is_one_line_that_names_it(
    mailed: tuple[Path, Opener], content: Any
) -> None:
    card, opened = mailed
    rewrite(card, content)
    assert card.name in refused(opened, card.parent)


@pytest.mark.parametrize("content", NO_CARD.values(), ids=NO_CARD.keys())
def test_any_model_says_so_too(tmp_path: Path, content: Any) -> None:
    rewrite(tmp_path / CARD, content)
    for opened in (load_model, read_artifact, build_graph):
        assert CARD in refused(opened, tmp_path)


def test_every_key_may_be_missing_or_wrong(mailed: tuple[Path, Opener]) -> None:
    card, opened = mailed
    written = json.loads(card.read_text())
    for key in written:
        rewrite(card, {name: value for name, value in written.items() if name != key})
        open_or_one_line(opened, card.parent)
        for value in WRONG:
            rewrite(card, {**written, key: value})
            open_or_one_line(opened, card.parent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "name", "part"),
    [
        (tuned, CARD, "base"),
        (tuned, CARD, "views"),
        (tuned, CARD, "calibration"),
        (tuned_by_0_7, OLD_CARD, "looks"),
        (tuned_by_0_7, OLD_CARD, "calibration"),
    ],
)
def test_every_key_within_a_tuned_sams_card_may_be_wrong(
    tmp_path: Path, write: Callable[[Path], None], name: str, part: str
) -> None:
    write(tmp_path)
    card = tmp_path / name
    written = json.loads(card.read_text())
    for key in written[part]:
        for value in WRONG:
            rewrite(card, {**written, part: {**written[part], key: value}})
            open_or_one_line(by_sam, tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_card_that_is_no_file_is_refused_at_once(mailed: tuple[Path, Opener], kind: str) -> None:
    card, opened = mailed
    card.unlink()
    if kind == "pipe":
        os.mkfifo(card)
    else:
        card.mkdir()
    assert "is not a regular file" in refused(opened, card.parent)


@pytest.mark.parametrize("name", ["/etc/x.pt", "../x.pt", "a/../../x.pt", "C:\\x.pt", "link.pt"])
def test_a_card_names_no_file_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    detector(folder)
    (tmp_path / "x.pt").write_bytes(b"no checkpoint")
    (folder / "link.pt").symlink_to(tmp_path / "x.pt")
    card = json.loads((folder / CARD).read_text())
    rewrite(folder / CARD, {**card, "checkpoint": name})
    with pytest.raises(DataError, match="names a file outside of its folder"):
        load_finetuned(folder, device="cpu")


def test_a_patch_bank_names_no_folder_to_see_by(tmp_path: Path) -> None:
    (tmp_path / "sam").mkdir()
    tuned(tmp_path / "sam")
    patchcore(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    rewrite(tmp_path / CARD, {**card, "features": str(tmp_path / "sam")})
    with pytest.raises(DataError, match="no backbone or SAM is called"):
        load_anomaly_model(tmp_path, CPU)


@pytest.mark.parametrize("name", ["best.yaml", "best.onnx", "best.torchscript", "best"])
def test_a_checkpoint_is_of_one_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsError, match="is not a YOLO checkpoint"):
        load_yolo_world(tmp_path / name)
