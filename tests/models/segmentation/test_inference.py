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
    views = [torch.rand(1, 3, *size) * 255 for size in ((32, 64), (96, 32), (64, 64))]
    with torch.inference_mode():
        expected = [own(pixels) for pixels in views]
    torch.testing.assert_close(compiled(views), expected, atol=1e-3, rtol=1e-3)
    alone = [compiled([pixels])[0] for pixels in views]
    assert all(map(torch.equal, alone, compiled(views)))
    assert compiled([]) == []
    monkeypatch.setattr(CompiledNetwork, "_traced", None)  # a second trace would fail
    again = CompiledNetwork(network())(views)
    torch.testing.assert_close(again, expected, atol=1e-3, rtol=1e-3)


def test_a_gpu_has_torch_and_no_openvino() -> None:
    with pytest.raises(ConfigError, match="backend openvino runs on a CPU"):
        inference.inference(network(), torch.device("cuda"), "openvino")
    assert isinstance(inference.inference(network(), CPU, "torch"), TorchNetwork)
