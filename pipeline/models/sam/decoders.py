"""SAM's mask decoder: by torch, and by OpenVINO on a CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.models.openvino_graphs import EntryStore, Graph
from pipeline.models.openvino_offline import load_openvino
from pipeline.models.sam.embedding_cache import Embedding
from pipeline.models.sam.network import DecoderCore, Prompts, decode, decoder_inputs

DecoderOutput = tuple[NDArray[np.float32], NDArray[np.float32]]
_CELLS = 2 * 64**2  # two prompts on whole images, 32 on crops of 256 px
_CELLS_ON_GPU = 64 * 64**2


class PromptDecoder(Protocol):
    """B pictures' embeddings, each with its prompt, to four masks each: logits (B, 4, S/4, S/4)
    and predicted IoU (B, 4). `key` names what else the output depends on, as an encoder's;
    about `cells` cells of embeddings at once are decoded quickest."""

    cells: int

    @property
    def key(self) -> str: ...

    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> DecoderOutput:
        """embeddings: each (256, S/16, S/16) float16; prompts as `network.Prompts`, on the CPU."""
        ...


class TorchDecoder:
    """The decoder as it is, in float32. A `PromptDecoder`."""

    def __init__(self, network: Any, key: str, device: torch.device) -> None:
        """`key` names the network's weights."""
        self.network = network.to(device).eval()
        self.device = device
        self.key = f"{key} torch"
        self.cells = cells_on(device)

    @torch.inference_mode()
    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> DecoderOutput:
        """See `PromptDecoder`."""
        batch = _stacked(embeddings, self.device)
        logits, rated = decode(self.network, batch, prompts.to(self.device))
        return logits.cpu().numpy(), rated.cpu().numpy()


class OpenVinoDecoder:
    """The decoder compiled for this CPU in float32, at its first use; its graph takes seconds to
    trace and is kept in the cache. A `PromptDecoder`."""

    cells = _CELLS

    def __init__(self, network: Callable[[], Any], key: str, cache: DiskCache) -> None:
        """`key` names the weights of the network, which is loaded at the first use."""
        version = load_openvino().__version__
        self._loaded, self._key = network, f"{key} openvino"
        store = EntryStore(cache, key_of(self._key, version, "decoder"))
        self._graph = Graph(store, lambda openvino: _traced(openvino, self._network), "f32")

    @property
    def key(self) -> str:
        """See `PromptDecoder`. Traces the network where that was not done yet."""
        return f"{self._key} {self._graph.sha256}"

    @torch.inference_mode()
    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> DecoderOutput:
        """See `PromptDecoder`."""
        batch = _stacked(embeddings, torch.device("cpu"))
        inputs = decoder_inputs(self._network, batch, prompts)
        output = self._graph.compiled([part.numpy() for part in inputs])
        return np.array(output[0], np.float32), np.array(output[1], np.float32)

    @cached_property
    def _network(self) -> Any:
        return self._loaded().eval()


def cells_on(device: torch.device) -> int:
    """About how many cells of embeddings a decoder takes at once."""
    return _CELLS if device.type == "cpu" else _CELLS_ON_GPU


def _stacked(embeddings: Sequence[Embedding], device: torch.device) -> torch.Tensor:
    """(B, 256, S/16, S/16) float32; one that all prompts share is carried over once."""
    first = embeddings[0]
    if all(embedding is first for embedding in embeddings):
        shared = torch.from_numpy(first)[None].to(device).float()
        return shared.expand(len(embeddings), -1, -1, -1)
    return torch.from_numpy(np.stack(embeddings)).to(device).float()


def _traced(openvino: Any, network: Any) -> Any:
    """The decoder's graph, for any number, side and prompt."""
    sample = (torch.zeros(2, 256, 8, 8), torch.zeros(1, 256, 8, 8), torch.zeros(2, 8, 256))
    shapes = [[-1, 256, -1, -1], [1, 256, -1, -1], [-1, -1, 256]]
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's tracer on what is constant here
        return openvino.convert_model(
            DecoderCore(network),
            example_input=sample,
            input=[openvino.PartialShape(shape) for shape in shapes],
        )


class DeferredDecoder:
    """A decoder that is created at its first use."""

    def __init__(self, key: str, cells: int, make: Callable[[], PromptDecoder]) -> None:
        self.key = key
        self.cells = cells
        self._make = make

    @cached_property
    def _decoder(self) -> PromptDecoder:
        return self._make()

    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> DecoderOutput:
        """See `PromptDecoder`."""
        return self._decoder.decode(embeddings, prompts)


class RememberingDecoder:
    """A decoder that remembers its last outputs. A `PromptDecoder`."""

    def __init__(self, decoder: PromptDecoder, calls: int = 64) -> None:
        """calls: of which the outputs are kept, the last ones."""
        self._decoder, self._calls = decoder, calls
        self._outputs: dict[str, DecoderOutput] = {}
        self.cells = decoder.cells

    @property
    def key(self) -> str:
        """See `PromptDecoder`."""
        return self._decoder.key

    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> DecoderOutput:
        """See `PromptDecoder`."""
        arrays = [np.zeros(0) if part is None else part.numpy() for part in prompts.parts]
        shapes = str([array.shape for array in (*embeddings, *arrays)])
        data = (np.ascontiguousarray(array).data for array in (*embeddings, *arrays))
        key = key_of(shapes, *data)
        output = self._outputs.pop(key, None) or self._decoder.decode(embeddings, prompts)
        self._outputs[key] = output  # the last again
        if len(self._outputs) > self._calls:
            del self._outputs[next(iter(self._outputs))]
        return output
