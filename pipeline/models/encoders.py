"""SAM's image encoder: by torch, by OpenVINO on a CPU, and with a cache before it.

OpenVINO's graph is exported here from the named weights, once, and kept beside the embeddings.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.disk_cache import DiskCache, key_of
from pipeline.errors import ConfigError
from pipeline.io.write import make_folder
from pipeline.models.embedding_cache import Embedding, get_embedding, put_embedding
from pipeline.models.openvino_offline import load_openvino
from pipeline.progress import say
from pipeline.types import Image

Engine = Literal["auto", "torch", "openvino"]
STRIDE = 16  # pixels of a picture to one of its embedding
_PIXELS_ON_GPU = 8 * 1024**2  # encoded at once
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # segment-anything's Sam.pixel_mean
_STD = np.array([58.395, 57.12, 57.375], np.float32)


class ImageEncoder(Protocol):
    """Pictures of at most `side` pixels to embeddings (256, side / 16, side / 16) float16.

    `key` names all that an embedding depends on but the pixels: weights, side, precision.
    """

    key: str
    side: int

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
        found: list[Embedding] = []
        for start in range(0, len(pictures), self.batch):
            some = pictures[start : start + self.batch]
            pixels = torch.from_numpy(np.stack([normalised(p, self.side) for p in some]))
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"
            ):
                answer = self.network(pixels.to(self.device, non_blocking=True))
            found += list(answer.half().cpu().contiguous().numpy())  # one layout: one result
        return found


class OpenVinoEncoder:
    """The encoder compiled for this CPU, in bfloat16 where the CPU has it. An `ImageEncoder`."""

    def __init__(
        self, network: torch.nn.Module, key: str, side: int, folder: Path, precision: str = "auto"
    ) -> None:
        """Export the network, or take up an earlier export from `folder`.

        precision: bf16, f32 or auto. Raises ConfigError where OpenVINO is not installed.
        """
        openvino = load_openvino()
        core = openvino.Core()
        if precision == "auto":
            able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = "bf16" if able else "f32"
        self.side = side
        self.key = f"{key} {side} openvino {precision}"
        path = folder / f"{key_of(key, str(side), openvino.__version__)[:32]}.xml"
        if not path.exists():
            _export(openvino, network, side, path)
        options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        options["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        self._compiled = core.compile_model(str(path), "CPU", options)

    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """See `ImageEncoder`."""
        return [
            np.asarray(self._compiled(normalised(p, self.side)[None])[0][0], np.float16)
            for p in pictures
        ]


def _export(openvino: Any, network: torch.nn.Module, side: int, path: Path) -> None:
    """Trace the network and write its graph; a killed export leaves nothing that would be read."""
    say(f"exporting the image encoder for this CPU, once ({side} px)")
    make_folder(path.parent)
    sample = torch.zeros(1, 3, side, side)
    shape = [tuple(sample.shape)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer on what is constant here
        graph = openvino.convert_model(network.eval(), example_input=sample, input=shape)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.xml")
    openvino.save_model(graph, str(temporary), compress_to_fp16=False)
    temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))
    temporary.replace(path)  # last: its presence says that the weights are there


class CachedEncoder:
    """Another encoder, asked only for pictures that the cache does not know. An `ImageEncoder`."""

    def __init__(self, encoder: ImageEncoder, cache: DiskCache) -> None:
        self._encoder = encoder
        self._cache = cache
        self.key = encoder.key
        self.side = encoder.side

    def encode(self, pictures: Sequence[Image]) -> list[Embedding]:
        """See `ImageEncoder`."""
        keys = [key_of(self.key, str(p.shape), np.ascontiguousarray(p).data) for p in pictures]
        found = [get_embedding(self._cache, key) for key in keys]
        new = [index for index, embedding in enumerate(found) if embedding is None]
        for index, embedding in zip(
            new, self._encoder.encode([pictures[i] for i in new]), strict=True
        ):
            put_embedding(self._cache, keys[index], embedding)
            found[index] = embedding
        return [embedding for embedding in found if embedding is not None]


def choose_engine(engine: Engine, device: torch.device) -> Literal["torch", "openvino"]:
    """`auto` is OpenVINO on a CPU where it is installed, else torch. Raises ConfigError."""
    if engine == "openvino" and device.type != "cpu":
        raise ConfigError("engine openvino runs on a CPU; choose --device cpu or engine torch")
    if engine != "auto":
        return engine
    if device.type != "cpu":
        return "torch"
    try:
        load_openvino()
    except ConfigError:
        return "torch"
    return "openvino"
