"""Where a training stands, damaged, or on a full disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.models.checkpoint import TrainingCheckpoint


def training(path: Path) -> tuple[TrainingCheckpoint, torch.nn.Linear]:
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 2)
    second = torch.nn.Linear(1, 1)
    return TrainingCheckpoint(path, torch.Generator(), network=network, second=second), network


def _of_another_training(data: bytes, path: Path) -> bytes:
    other = path.with_name("other")
    parts = {"network": torch.nn.Linear(2, 2), "second": torch.nn.Linear(3, 3)}
    TrainingCheckpoint(other, torch.Generator(), **parts).save(1, 1)
    return other.read_bytes()


@pytest.mark.parametrize(
    "alter",
    [
        lambda data, _: b"",
        lambda data, _: data[:50],
        lambda data, _: data[:-1],
        lambda data, _: data[:200] + b"\xff" + data[201:],
        lambda data, _: b"PK" + data,
        _of_another_training,
    ],
)
def test_a_damaged_state_of_a_training_means_the_start(
    tmp_path: Path, notices: list[str], alter: Callable[[bytes, Path], bytes]
) -> None:
    path = tmp_path / "state"
    kept, network = training(path)
    with torch.no_grad():
        network.weight.fill_(5.0)
    kept.save(3, 3, [[1.0]])
    again, restored = training(path)
    assert again.restore() == (3, [[1.0]])
    assert (restored.weight == 5.0).all()
    path.write_bytes(alter(path.read_bytes(), path))
    again, restored = training(path)
    begun = restored.weight.clone()
    assert again.restore() == (0, [])
    assert (restored.weight == begun).all()
    assert len(notices) == 1


def test_a_full_disk_does_not_end_a_training(
    tmp_path: Path, notices: list[str], full_disk: None
) -> None:
    kept, _ = training(tmp_path / "state")
    kept.save(1, 1)
    kept.save(1, 1)
    assert len(notices) == 1
