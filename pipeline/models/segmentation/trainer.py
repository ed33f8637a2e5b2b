"""Training of a segmentation network on crops: first the pyramid alone, then with the encoder.

A pyramid that starts from random weights would pull the encoder out of shape; trained first, it
also learns with a third of the time a step (Kumar et al., ICLR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.models.checkpoint import TrainingCheckpoint
from pipeline.models.devices import has_bfloat16
from pipeline.models.processes import joined, share
from pipeline.models.segmentation.crops import CropSampler
from pipeline.models.segmentation.losses import segmentation_loss
from pipeline.models.segmentation.network import STAGES, SegmentationNetwork
from pipeline.runtime.progress import track

_WARM_UP = 0.15  # share of a phase in which the learning rate grows
_LEARNING_FROM = 2  # stages of the encoder that never learn, of strides 2 and 4


@dataclass(frozen=True)
class Phase:
    """A part of a training. frozen: stages of the encoder that do not learn. Rates: the highest."""

    steps: int
    frozen: int
    encoder_rate: float
    decoder_rate: float


@dataclass(frozen=True)
class TrainingOptions:
    """decoder_steps: of the pyramid alone. steps: of both. learns_all: of an encoder with random
    weights, all of which learns. checkpoint: file from which a stopped training goes on; one a
    phase."""

    decoder_steps: int
    steps: int
    batch: int = 6
    learns_all: bool = False
    seed: int = 0
    checkpoint: Path | None = None

    def phases(self) -> list[Phase]:
        """In order."""
        if self.learns_all:
            return [Phase(self.decoder_steps + self.steps, 0, 1e-3, 3e-3)]
        both = [
            Phase(self.decoder_steps, STAGES, 0.0, 3e-3),
            Phase(self.steps, _LEARNING_FROM, 5e-4, 1e-3),
        ]
        return [phase for phase in both if phase.steps]


def train(
    network: SegmentationNetwork,
    crops: CropSampler,
    options: TrainingOptions,
    device: torch.device,
    title: str,
) -> list[float]:
    """Train a network in place; returns the loss of each step. A training that goes on from its
    checkpoint ends with the same weights on a CPU. In several processes, each draws all crops of a
    step and computes its share; the batch has one for each at least. Raises DataError for a photo
    that cannot be read."""
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    losses: list[float] = []
    for number, phase in enumerate(options.phases()):
        path = options.checkpoint
        own = path.with_name(f"{path.stem}_{number}{path.suffix}") if path else None
        losses += _train_phase(network, crops, options, phase, len(losses), own, device, title)
    return losses


def _train_phase(
    network: SegmentationNetwork,
    crops: CropSampler,
    options: TrainingOptions,
    phase: Phase,
    before: int,
    path: Path | None,
    device: torch.device,
    title: str,
) -> list[float]:
    """The losses of a phase. before: steps of the earlier ones."""
    network.freeze(phase.frozen)
    network.train()
    optimizer, schedule = _optimizer(network, phase)
    generator = torch.Generator().manual_seed(options.seed)
    checkpoint = TrainingCheckpoint(
        path, generator, network=network, optimizer=optimizer, schedule=schedule
    )
    done, history = checkpoint.restore()
    losses = [row[0] for row in history]
    logits_of, (own, _) = joined(network, network), share(options.batch)
    for step in track(range(done, phase.steps), title):
        batch = crops.batch(before + step, options.batch)
        pixels, labels = (each[own].to(device) for each in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            logits = logits_of(pixels)
        loss = segmentation_loss(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        checkpoint.save(step + 1, phase.steps, [[each] for each in losses])
    return losses


def _optimizer(
    network: SegmentationNetwork, phase: Phase
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, whose rates go through one cycle."""
    groups = [(network.decoder_parameters(), phase.decoder_rate)]
    if encoder := network.encoder_parameters():
        groups.append((encoder, phase.encoder_rate))
    optimizer = torch.optim.AdamW(
        [{"params": parameters, "lr": rate} for parameters, rate in groups],
        weight_decay=1e-2,
        fused=True,
    )
    rates = [rate for _, rate in groups]
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=phase.steps + 1, pct_start=_WARM_UP
    )
