"""SAM's image encoder: by torch, by OpenVINO on a CPU, and with a cache.

OpenVINO's graph is exported here from the named weights, once, and stored beside the embeddings;
see `openvino_graphs`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.models.backends import openvino_precision
from pipeline.models.openvino_graphs import FolderStore, Graph
from pipeline.models.openvino_offline import load_openvino
from pipeline.models.sam.embedding_cache import Embedding, get_embedding, put_embedding
from pipeline.runtime.progress import say
from pipeline.types import Image

STRIDE = 16  # pixels of a picture to one of its embedding
_CHANNELS = 256  # of an embedding
_PIXELS_ON_GPU = 8 * 1024**2  # encoded at once
_SMALL = 512  # pixels of a side up to which two pictures at once take less time and little memory
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # segment-anything's Sam.pixel_mean
_STD = np.array([58.395, 57.12, 57.375], np.float32)


class ImageEncoder(Protocol):
    """Pictures of at most `side` pixels to embeddings (256, side / 16, side / 16) float16.

    `key` names all that an embedding depends on but the pixels: weights, side, precision, and the
    graph that was exported, if one was.
    """

    side: int

    @property
    def key(self) -> str:
        """May change when the first picture is encoded, if the stored graph is damaged."""
        ...

    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """One embedding per picture (h, w, 3) uint8 RGB, which lies in the top left corner."""
        ...


def normalised(picture: Image, side: int) -> NDArray[np.float32]:
    """(3, side, side) float32, as segment-anything's `Sam.preprocess`: zero where no picture is."""
    height, width = picture.shape[:2]
    pixels = np.zeros((3, side, side), np.float32)
    pixels[:, :height, :width] = ((picture - _MEAN) / _STD).transpose(2, 0, 1)
    return pixels


class TorchEncoder:
    """The encoder as it is, in float32 on a CPU and bfloat16 on a GPU. An `ImageEncoder`."""

    def __init__(self, network: torch.nn.Module, key: str, side: int, device: torch.device) -> None:
        """`key` names the weights; several pictures go at once on a GPU."""
        self.network = network.to(device).eval()
        self.side = side
        self.device = device
        self.batch = max(1, _PIXELS_ON_GPU // side**2) if device.type == "cuda" else 1
        self.key = f"{key} {side} torch {'bf16' if device.type == 'cuda' else 'f32'}"

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """See `ImageEncoder`."""
        embeddings: list[Embedding] = []
        for start in range(0, len(pictures), self.batch):
            batch = pictures[start : start + self.batch]
            pixels = torch.from_numpy(np.stack([normalised(p, self.side) for p in batch]))
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"
            ):
                output = self.network(pixels.to(self.device, non_blocking=True))
            embeddings += list(output.half().cpu().contiguous().numpy())  # one layout: one result
        return embeddings


class OpenVinoEncoder:
    """The encoder compiled for this CPU, in bfloat16 where the CPU has it. An `ImageEncoder`."""

    def __init__(
        self,
        network: Callable[[], torch.nn.Module],
        key: str,
        side: int,
        folder: Path,
        precision: str = "auto",
    ) -> None:
        """`key` names the weights. `network` is called only if `folder` holds no export.

        precision: bf16, f32 or auto. Raises ConfigError where OpenVINO is not installed.
        """
        self.side = side
        self._key, self._precision = key, precision
        self._network, self._folder = network, folder
        self._openvino = load_openvino()

    @property
    def key(self) -> str:
        """See `ImageEncoder`. Exports the network where that was not done yet."""
        return f"{self._key} {self.side} openvino {self._used_precision} {self._graph.sha256}"

    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """See `ImageEncoder`."""
        if not pictures:
            return []
        outputs = self._graph.outputs([normalised(p, self.side)[None] for p in pictures])
        return [np.asarray(output[0], np.float16) for output in outputs]

    @property
    def _used_precision(self) -> str:
        return openvino_precision() if self._precision == "auto" else self._precision

    @cached_property
    def _graph(self) -> Graph:
        name = key_of(self._key, str(self.side), self._openvino.__version__)[:32]
        store = FolderStore(self._folder, name)
        return Graph(store, self._traced, self._used_precision, self.side <= _SMALL)

    def _traced(self, openvino: Any) -> Any:
        say(f"exporting the image encoder for this CPU, once ({self.side} px)")
        sample = torch.zeros(1, 3, self.side, self.side)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's tracer on what is constant here
            return openvino.convert_model(
                self._network().eval(), example_input=sample, input=[tuple(sample.shape)]
            )


class CachedEncoder:
    """An encoder with a cache of its embeddings. An `ImageEncoder`."""

    def __init__(self, encoder: ImageEncoder, cache: DiskCache) -> None:
        self._encoder = encoder
        self._cache = cache
        self.side = encoder.side

    @property
    def key(self) -> str:
        """See `ImageEncoder`."""
        return self._encoder.key

    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """See `ImageEncoder`."""
        if self._cache.limit <= 0:
            return self._encoder.encode(pictures)
        keys = [key_of(str(p.shape), np.ascontiguousarray(p).data) for p in pictures]
        shape = (_CHANNELS, self.side // STRIDE, self.side // STRIDE)
        encoder_key = self.key
        embeddings = [get_embedding(self._cache, key_of(encoder_key, key), shape) for key in keys]
        missing = [row for row, embedding in enumerate(embeddings) if embedding is None]
        encoded = self._encoder.encode([pictures[row] for row in missing]) if missing else []
        encoder_key = self.key  # encoding may have exported the graph again
        for row, embedding in zip(missing, encoded, strict=True):
            put_embedding(self._cache, key_of(encoder_key, keys[row]), embedding)
            embeddings[row] = embedding
        return [embedding for embedding in embeddings if embedding is not None]


class DeferredEncoder:
    """An encoder that is created at its first use."""

    def __init__(self, key: str, side: int, make: Callable[[], ImageEncoder]) -> None:
        self.key = key
        self.side = side
        self._make = make

    @cached_property
    def _encoder(self) -> ImageEncoder:
        return self._make()

    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """See `ImageEncoder`."""
        return self._encoder.encode(pictures) if pictures else []
