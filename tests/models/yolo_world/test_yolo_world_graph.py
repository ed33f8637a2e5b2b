"""YOLO-World through OpenVINO finds what ultralytics finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.io.images import read_image
from pipeline.models.text.embeddings import TextEmbeddings
from pipeline.models.weights.store import WeightsStore
from pipeline.models.yolo_world import inference
from pipeline.models.yolo_world.detector import YoloWorldDetector, saved_text_embeddings
from pipeline.types import Image


@pytest.fixture(scope="module")
def weights() -> Path:
    return WeightsStore().fetch("yolov8s-world").path


@pytest.fixture(scope="module")
def bus() -> Image:
    """810 x 1080 pixels, which ultralytics ships."""
    from ultralytics.utils import ASSETS

    return read_image(ASSETS / "bus.jpg")


@pytest.mark.slow
@pytest.mark.parametrize("crop", [np.s_[:, :], np.s_[-500:, :], np.s_[:50, :300], np.s_[:9, :9]])
@pytest.mark.parametrize(("precision", "pixels", "score"), [("f32", 0.05, 1e-3), ("bf16", 8, 0.1)])
def test_boxes_and_scores_are_those_of_ultralytics(
    monkeypatch: pytest.MonkeyPatch,
    weights: Path,
    bus: Image,
    crop: tuple[slice, slice],
    precision: str,
    pixels: float,
    score: float,
) -> None:
    """Images of any shape. Other scores can bring boxes across the limit of 0.05, so the clear ones
    are compared. bfloat16 has 8 bits: a processor without it computes in single precision."""
    monkeypatch.setattr(inference, "openvino_precision", lambda: precision)
    image = np.ascontiguousarray(bus[crop])
    texts = TextEmbeddings(("person", "bus"), saved_text_embeddings(weights)[[0, 5]], "clip")
    graph, torch = (
        YoloWorldDetector(weights, texts, 320, 0.05, device="cpu", backend=backend).detect(image)
        for backend in ("openvino", "torch")
    )
    assert graph.scores is not None
    assert torch.scores is not None
    clear = torch.scores > 0.3
    count = int(clear.sum())
    assert (graph.scores > 0.3 - score).sum() >= count
    for box, label, own in zip(
        torch.boxes[clear], torch.labels[clear], torch.scores[clear], strict=True
    ):
        nearest = np.abs(graph.boxes - box).max(axis=1).argmin()
        assert np.abs(graph.boxes[nearest] - box).max() < pixels
        assert graph.labels[nearest] == label
        assert abs(graph.scores[nearest] - own) < score


@pytest.mark.slow
def test_the_best_boxes_alone_are_kept(weights: Path, bus: Image) -> None:
    texts = TextEmbeddings(("person",), saved_text_embeddings(weights)[[0]], "clip")

    def found(confidence: float, most: int) -> list[float]:
        detector = YoloWorldDetector(
            weights, texts, 320, confidence, device="cpu", max_boxes=most, backend="openvino"
        )
        scores = detector.detect(bus).scores
        return [] if scores is None else [float(score) for score in scores]

    every = found(0.01, 300)
    assert every == sorted(every, reverse=True)
    assert found(0.01, 2) == every[:2]
    assert found(0.999, 300) == []
