"""How a classifier's head learns from cached features, and from categories of unequal size."""

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
class Epoch:
    """Mean loss and accuracy in [0, 1] on the training images in one epoch."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Lesson:
    """How long and how fast to learn, by Adam; `views` are kept of each image, of which a step
    draws one. `loss` and `sampling` make up for categories of unequal size; `bar` draws one. A
    training that was stopped goes on from the file `checkpoint`."""

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
    lesson: Lesson,
) -> list[Epoch]:
    """Train a module so that `forward(rows, views)` gives the logits (B, C) of images (B,) by
    index, each in one of its views. labels: (N,). Returns one entry per epoch."""
    generator = torch.Generator().manual_seed(lesson.seed)
    optimizer = torch.optim.Adam(learning.parameters(), lr=lesson.learning_rate)
    weights, shift = balance(labels, categories, lesson.loss)
    checkpoint = TrainingCheckpoint(
        lesson.checkpoint, generator, learning=learning, optimizer=optimizer
    )
    done, rows_before = checkpoint.restore()
    history = [Epoch(*row) for row in rows_before]
    epochs = range(done, lesson.epochs)
    for epoch in track(epochs, "train classifier, epochs") if lesson.bar else epochs:
        order = _order(labels, categories, lesson.sampling, generator)
        view = torch.randint(views, (len(labels),), generator=generator)
        total, right = 0.0, 0
        for rows in torch.split(order, lesson.batch):
            if len(rows) == 1 and len(labels) > 1:
                continue  # batch norm cannot learn from one image
            logits = forward(rows, view[rows])
            wanted = labels[rows].to(logits.device)
            loss = functional.cross_entropy(
                logits + shift.to(logits.device), wanted, weights.to(logits.device)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
            right += int((logits.argmax(dim=1) == wanted).sum())
        history.append(Epoch(total / len(labels), right / len(labels)))
        checkpoint.save(epoch + 1, lesson.epochs, [astuple(row) for row in history])
    return history


def balance(labels: torch.Tensor, categories: int, loss: Loss) -> tuple[torch.Tensor, torch.Tensor]:
    """What each category weighs, and what is added to its logits while learning, each (C,).

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
    """As many rows as there are: each once, or each category as often."""
    if sampling == "plain":
        return torch.randperm(len(labels), generator=generator)
    counts = torch.bincount(labels, minlength=categories).clamp(min=1)
    return torch.multinomial(1 / counts[labels].float(), len(labels), True, generator=generator)
