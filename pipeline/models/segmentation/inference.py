"""A trained network made ready to find defects: by torch, or compiled by OpenVINO for this CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from pipeline.io.disk_cache import disk_cache, key_of
from pipeline.models.backends import Backend, choose_backend, openvino_precision
from pipeline.models.devices import has_bfloat16
from pipeline.models.openvino_graphs import EntryStore, Graph
from pipeline.models.openvino_offline import load_openvino
from pipeline.models.segmentation.network import STRIDE, SegmentationNetwork

Inference = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]
_CACHE_GB = 20.0
_SAMPLE = 2 * STRIDE  # pixels of a side; the graph takes any


def inference(network: SegmentationNetwork, device: torch.device, backend: Backend) -> Inference:
    """The network in evaluation: pixels of several views, on the CPU, to the logits of each, as
    `SegmentationNetwork.forward`; in bfloat16 where the device has it. Raises ConfigError for a
    backend that the device has not."""
    network.eval()
    if choose_backend(backend, device) == "openvino":
        return CompiledNetwork(network)
    return TorchNetwork(network, device)


class TorchNetwork:
    """The network as it is. An `Inference`."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """network: in evaluation."""
        self.device = device
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See `inference`."""
        return [self._logits(pixels) for pixels in views]

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        moved = pixels.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            logits: torch.Tensor = self._network(moved)
        return logits.float()


class CompiledNetwork:
    """The network as a graph, which is exported at its first use and kept in the cache. An
    `Inference`."""

    def __init__(self, network: SegmentationNetwork) -> None:
        self._network = network

    def __call__(self, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """See `inference`."""
        outputs = self._graph.outputs([pixels.contiguous().numpy() for pixels in views])
        return [torch.from_numpy(output) for output in outputs]

    @cached_property
    def _graph(self) -> Graph:
        state = self._network.state_dict()
        about = f"segmentation {self._network.options} {load_openvino().__version__}"
        weights = (value.contiguous().numpy().data for _, value in sorted(state.items()))
        store = EntryStore(disk_cache(_CACHE_GB), key_of(about, *weights))
        return Graph(store, self._traced, openvino_precision(), side_by_side=True)

    def _traced(self, openvino: Any) -> Any:
        """The graph, for any sides."""
        sample = torch.zeros(1, 3, _SAMPLE, _SAMPLE)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's tracer on what is constant here
            return openvino.convert_model(
                self._network,
                example_input=sample,
                input=[openvino.PartialShape([1, 3, -1, -1])],
            )
