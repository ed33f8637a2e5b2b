"""Patch features through OpenVINO are those of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.features import patches
from pipeline.models.features.patches import BackboneFeatures


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(64, 64, 3), (5, 90, 3)])
def test_both_give_the_same_features(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    features = BackboneFeatures("mobilenet_v2", None, "", 64, torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    graph = features.patches(image)
    monkeypatch.setattr(patches, "choose_backend", lambda *_: "torch")
    assert graph.shape == (8, 8, 32 + 96)  # 64 / 8 rows and columns, of two layers
    assert torch.allclose(graph, features.patches(image), rtol=1e-3, atol=1e-5)
