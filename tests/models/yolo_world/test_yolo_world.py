from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry.boxes import as_boxes, iou
from pipeline.io.images import read_image
from pipeline.io.read import sha256_of
from pipeline.models.openvino_offline import openvino_core
from pipeline.models.text import embeddings as text_embeddings
from pipeline.models.text.embeddings import TextEmbeddings, embed
from pipeline.models.weights.store import Entry, WeightsStore
from pipeline.models.yolo_world.detector import (
    YoloWorldDetector,
    embeddings_file,
    load_finetuned,
    load_yolo_world,
    saved_text_embeddings,
    write_card,
)

NAMES = ("crack", "deep scratch / dent", "stain")


@pytest.fixture(scope="module")
def weights() -> Path:
    return WeightsStore().fetch("yolov8s-world").path


@pytest.fixture(scope="module")
def reference(weights: Path) -> np.ndarray:
    return saved_text_embeddings(weights)


def test_the_checkpoint_has_80_unit_vectors_for_coco(
    reference: np.ndarray,
) -> None:
    assert reference.shape == (80, 512)
    assert np.allclose(np.linalg.norm(reference, axis=1), 1, atol=1e-3)


def test_fixed_embeddings_are_unit_vectors_that_depend_on_the_name_alone(
    reference: np.ndarray, tmp_path: Path
) -> None:
    store = WeightsStore(tmp_path)
    three = embed(NAMES, reference, "fixed", store)
    one = embed(("stain",), reference, "fixed", store)
    assert three.kind == "fixed"
    assert np.allclose(np.linalg.norm(three.vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(three.vectors[2], one.vectors[0])
    closeness = three.vectors @ three.vectors.T
    assert 0.6 < closeness[0, 1] < 0.9  # CLIP's own differ by 0.77 on average


def test_embeddings_survive_their_file(tmp_path: Path) -> None:
    given = TextEmbeddings(NAMES, np.eye(3, 512, dtype=np.float32), "fixed")
    given.save(tmp_path / "e.safetensors")
    found = TextEmbeddings.load(tmp_path / "e.safetensors")
    assert (found.categories, found.kind) == (given.categories, given.kind)
    assert np.array_equal(found.vectors, given.vectors)
    (tmp_path / "bad").write_bytes(b"x")
    with pytest.raises(WeightsError, match="not a file of text embeddings"):
        TextEmbeddings.load(tmp_path / "bad")


@pytest.mark.slow
def test_clip_gives_the_embeddings_when_its_file_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLIP's architecture with two layers of twelve and random weights: the official file is not on
    every machine."""
    open_clip = pytest.importorskip("open_clip")
    name = "ViT-B-32-quickgelu"
    form = copy.deepcopy(open_clip.get_model_config(name))
    form["vision_cfg"]["layers"] = form["text_cfg"]["layers"] = 2
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, form)
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    entry = Entry("c", "clip.pt", "", "MIT", sha256_of(tmp_path / "clip.pt"))
    store = WeightsStore(tmp_path, {text_embeddings._CLIP: entry})
    found = embed(("broken_teeth", "stain"), np.eye(2, 512, dtype=np.float32), "auto", store)
    assert found.kind == "clip"
    tokens = open_clip.get_tokenizer(name)(["broken teeth", "stain"])
    with torch.inference_mode():
        expected = model.eval().encode_text(tokens, normalize=True).numpy()
    assert np.allclose(found.vectors, expected, atol=1e-5)


@pytest.mark.slow
def test_the_detector_has_the_labels_of_its_embeddings_and_sorted_scores(
    weights: Path, reference: np.ndarray
) -> None:
    chosen = TextEmbeddings(("person", "car"), reference[[0, 2]], "clip")
    detector = YoloWorldDetector(weights, chosen, image_side=320, confidence=0.001, device="cpu")
    detections = detector.detect(np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8))
    assert set(detections.labels.tolist()) <= {0, 1}
    assert detections.scores is not None
    assert (np.diff(detections.scores) <= 0).all()
    assert (detections.boxes >= 0).all()
    assert (detections.boxes <= [160, 90, 160, 90]).all()


@pytest.mark.slow
def test_coco_photos_content_is_found_with_coco_names(weights: Path, reference: np.ndarray) -> None:
    """The bus that ultralytics ships, with the embeddings the checkpoint carries."""
    from ultralytics.utils import ASSETS

    chosen = TextEmbeddings(("person", "bus"), reference[[0, 5]], "clip")
    detector = YoloWorldDetector(weights, chosen, image_side=640, device="cpu")
    detections = detector.detect(read_image(ASSETS / "bus.jpg"))
    names = [chosen.categories[label] for label in detections.labels]
    assert names.count("person") >= 3
    assert "bus" in names


def test_a_missing_or_wrong_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        load_yolo_world(tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="not a YOLO checkpoint"):
        load_yolo_world(tmp_path / "bad.pt")
    with pytest.raises(ConfigError, match="holds no detector"):
        load_finetuned(tmp_path)


def test_a_card_of_version_0_7_is_read(
    weights: Path, reference: np.ndarray, tmp_path: Path
) -> None:
    shutil.copy(weights, tmp_path / "best.pt")
    write_card(tmp_path, tmp_path / "best.pt", sha256_of(weights), 64, "yolov8s-world", 0.125)
    TextEmbeddings(("bus",), reference[5:6], "clip").save(embeddings_file(tmp_path))
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").unlink()
    (tmp_path / "detector.json").write_text(
        json.dumps({key: value for key, value in card.items() if key != "kind"})
    )
    assert load_finetuned(tmp_path, device="cpu").confidence == 0.125


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_exported_detector_finds_the_same_boxes(
    weights: Path, reference: np.ndarray, tmp_path: Path, form: str
) -> None:
    """The bus of 810 x 1080 pixels, cropped to a square so that no border is added."""
    import cv2
    from ultralytics.utils import ASSETS

    from pipeline.stages.export_model import export_model

    run = tmp_path / "run"
    chosen = TextEmbeddings(("person", "bus"), reference[[0, 5]], "clip")
    (run / "train").mkdir(parents=True)
    shutil.copy(weights, run / "train" / "best.pt")
    chosen.save(embeddings_file(run))
    write_card(run, run / "train" / "best.pt", sha256_of(weights), 320, "yolov8s-world", 0.25)
    image = read_image(ASSETS / "bus.jpg")[-800:, :800]
    wanted = YoloWorldDetector(weights, chosen, 320, device="cpu", backend="torch").detect(image)

    exported = export_model(run, tmp_path / "out", form=form)
    assert (exported.categories, exported.input) == (("person", "bus"), (1, 3, 320, 320))
    graph = openvino_core().compile_model(str(tmp_path / "out" / exported.file), "CPU")
    small = cv2.resize(image, (320, 320), interpolation=cv2.INTER_LINEAR)
    two = np.stack([small, small]).transpose(0, 3, 1, 2).astype(np.float32)
    answer = graph(two)[0]
    assert np.allclose(answer[0], answer[1], atol=1e-3)  # any number of images at once
    places = answer[0].T
    middle, size, scores = places[:, :2], places[:, 2:4], places[:, 4:].max(axis=1)
    assert exported.confidence is not None
    sure = scores > exported.confidence
    boxes = np.concatenate([middle - size / 2, middle + size / 2], axis=1)[sure] * 800 / 320
    best = iou(wanted.boxes, as_boxes(boxes))
    assert len(wanted) >= 3
    assert (best.max(axis=1) > 0.9).all()  # each is among those that NMS would choose from
    assert (best.max(axis=0) > 0.6).all()  # and the rest are what NMS would drop
