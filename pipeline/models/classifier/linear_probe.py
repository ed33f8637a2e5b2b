"""Training of a classifier's head on cached features, with categories of unequal size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from pipeline.models.checkpoint import TrainingCheckpoint
from pipeline.runtime.progress import track

Loss = Literal["plain", "class-balanced", "logit-adjusted"]
Sampling = Literal["plain", "balanced"]
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_BETA = 0.999  # Cui et al. 2019, section 4.2


@dataclass(frozen=True)
class EpochMetrics:
    """Mean loss and accuracy in [0, 1] on the training images in one epoch."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class TrainingOptions:
    """Options of the training with Adam. loss, sampling: for categories of unequal size. bar: show
    progress. checkpoint: file from which a stopped training goes on."""

    epochs: int = 50
    batch: int = 16
    learning_rate: float = 1e-4
    loss: Loss = "plain"
    sampling: Sampling = "plain"
    seed: int = 0
    bar: bool = True
    checkpoint: Path | None = None


def fit_head(
    learning: nn.Module,
    forward: Forward,
    labels: torch.Tensor,
    categories: int,
    views: int,
    options: TrainingOptions,
) -> list[EpochMetrics]:
    """Train the module `learning`. Returns one entry per epoch.

    forward: logits (B, C) of images (B,) by index, each in the view (B,) that is drawn for it.
    labels: (N,).
    """
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.Adam(learning.parameters(), lr=options.learning_rate)
    weights, shift = balance(labels, categories, options.loss)
    checkpoint = TrainingCheckpoint(
        options.checkpoint, generator, learning=learning, optimizer=optimizer
    )
    done, rows_before = checkpoint.restore()
    history = [EpochMetrics(*row) for row in rows_before]
    epochs = range(done, options.epochs)
    for epoch in track(epochs, "train classifier, epochs") if options.bar else epochs:
        order = _order(labels, categories, options.sampling, generator)
        view = torch.randint(views, (len(labels),), generator=generator)
        total, right = 0.0, 0
        for rows in torch.split(order, options.batch):
            if len(rows) == 1 and len(labels) > 1:
                continue  # batch norm cannot learn from one image
            logits = forward(rows, view[rows])
            target = labels[rows].to(logits.device)
            loss = functional.cross_entropy(
                logits + shift.to(logits.device), target, weights.to(logits.device)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
            right += int((logits.argmax(dim=1) == target).sum())
        history.append(EpochMetrics(total / len(labels), right / len(labels)))
        checkpoint.save(epoch + 1, options.epochs, [astuple(row) for row in history])
    return history


def balance(labels: torch.Tensor, categories: int, loss: Loss) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the categories, and shifts of their logits in training, each (C,).

    class-balanced: (1 - b) / (1 - b^n) for n images, of mean 1 over those that occur (Cui et al.,
    CVPR 2019). logit-adjusted: log of the share of images (Menon et al., ICLR 2021, tau 1).
    """
    counts = torch.bincount(labels, minlength=categories).float()
    weights, shift = torch.ones(categories), torch.zeros(categories)
    if loss == "class-balanced":
        weights = (1 - _BETA) / (1 - _BETA ** counts.clamp(min=1))
        weights = weights / weights[counts > 0].mean()
    if loss == "logit-adjusted":
        shift = (counts.clamp(min=1) / counts.sum()).log()
    return weights, shift


def _order(
    labels: torch.Tensor, categories: int, sampling: Sampling, generator: torch.Generator
) -> torch.Tensor:
    """Order of N rows: each once, or drawn so that all categories are equally frequent."""
    if sampling == "plain":
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels, minlength=categories).clamp(min=1)
    return torch.multinomial(1 / counts[labels].float(), len(labels), True, generator=generator)
