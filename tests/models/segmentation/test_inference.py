"""What a network says by OpenVINO, beside what it says by torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from segmenters import CPU

from pipeline.errors import ConfigError
from pipeline.models.segmentation import inference
from pipeline.models.segmentation.inference import CompiledNetwork, TorchNetwork
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork


def network() -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(NetworkOptions("mobilenet_v2", 2)).eval()


@pytest.mark.slow
def test_openvino_says_what_torch_says_at_every_size_and_stores_its_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path))
    monkeypatch.setattr(inference, "openvino_precision", lambda: "f32")
    own = network()
    compiled = CompiledNetwork(own)
    for height, width in ((32, 64), (96, 32)):
        pixels = torch.rand(1, 3, height, width) * 255
        with torch.inference_mode():
            expected = own(pixels)
        torch.testing.assert_close(compiled(pixels), expected, atol=1e-3, rtol=1e-3)
    monkeypatch.setattr(CompiledNetwork, "_traced", None)  # a second trace would fail
    again = CompiledNetwork(network())(pixels)
    torch.testing.assert_close(again, expected, atol=1e-3, rtol=1e-3)


def test_a_gpu_has_torch_and_no_openvino() -> None:
    with pytest.raises(ConfigError, match="backend openvino runs on a CPU"):
        inference.inference(network(), torch.device("cuda"), "openvino")
    assert isinstance(inference.inference(network(), CPU, "torch"), TorchNetwork)
