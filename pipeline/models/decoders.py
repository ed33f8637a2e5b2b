"""SAM's mask decoder: by torch, and by OpenVINO on a CPU."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.disk_cache import DiskCache, key_of
from pipeline.models.embedding_cache import Embedding
from pipeline.models.openvino_offline import load_openvino
from pipeline.models.sam_network import DecoderCore, Prompts, decode, decoder_inputs

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
_CELLS = 2 * 64**2  # two prompts on whole images, 32 on close looks of 256 px
_CELLS_ON_GPU = 64 * 64**2


class PromptDecoder(Protocol):
    """B pictures' embeddings, each with its prompt, to four masks each: logits (B, 4, S/4, S/4)
    and predicted IoU (B, 4). `key` names what an answer depends on but these; about `cells` cells
    of embeddings at once are decoded quickest."""

    key: str
    cells: int

    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> Answer:
        """embeddings: each (256, S/16, S/16) float16; prompts as `sam_network.Prompts`, on the
        CPU."""
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
    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> Answer:
        """See `PromptDecoder`."""
        seen = _stacked(embeddings, self.device)
        logits, rated = decode(self.network, seen, prompts.to(self.device))
        return logits.cpu().numpy(), rated.cpu().numpy()


class OpenVinoDecoder:
    """The decoder compiled for this CPU in float32, at its first use; its graph takes seconds to
    trace and is kept in the cache. A `PromptDecoder`."""

    cells = _CELLS

    def __init__(self, network: Any, key: str, cache: DiskCache) -> None:
        """`key` names the network's weights."""
        self.network = network.eval()
        self.key = f"{key} openvino"
        self._cache = cache

    @torch.inference_mode()
    def decode(self, embeddings: Sequence[Embedding], prompts: Prompts) -> Answer:
        """See `PromptDecoder`."""
        seen = _stacked(embeddings, torch.device("cpu"))
        told = decoder_inputs(self.network, seen, prompts)
        answer = self._compiled([part.numpy() for part in told])
        return np.array(answer[0], np.float32), np.array(answer[1], np.float32)

    @cached_property
    def _compiled(self) -> Any:
        openvino = load_openvino()
        names = ("decoder.xml", "decoder.bin")
        keys = [key_of(self.key, openvino.__version__, name) for name in names]
        graph, weights = (self._cache.get(key) for key in keys)
        if graph is None or weights is None:
            graph, weights = _traced(openvino, self.network)
            for key, data in zip(keys, (graph, weights), strict=True):
                self._cache.put(key, data)
        core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        options["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        return core.compile_model(core.read_model(graph, weights), "CPU", options)


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


def _traced(openvino: Any, network: Any) -> tuple[bytes, bytes]:
    """The decoder's graph and its weights, for any number, side and prompt."""
    sample = (torch.zeros(2, 256, 8, 8), torch.zeros(1, 256, 8, 8), torch.zeros(2, 8, 256))
    shapes = [[-1, 256, -1, -1], [1, 256, -1, -1], [-1, -1, 256]]
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's tracer on what is constant here
        graph = openvino.convert_model(
            DecoderCore(network),
            example_input=sample,
            input=[openvino.PartialShape(shape) for shape in shapes],
        )
    with tempfile.TemporaryDirectory(prefix="pipeline-") as folder:
        path = Path(folder) / "decoder.xml"
        openvino.save_model(graph, os.fspath(path), compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
