from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models import checkpoint
from pipeline.models.anomaly.autoencoder import Autoencoder
from pipeline.models.classifier.linear_probe import TrainingOptions, fit_head


def learned(path: Path | None, stop_at: int = -1) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and weights of six epochs of a head with dropout and batch norm, which draws chance
    from two sources; killed in the epoch `stop_at`."""
    torch.manual_seed(0)
    inputs = torch.randn(20, 2, 5)
    head = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    batches = 0

    def forward(rows: torch.Tensor, view: torch.Tensor) -> torch.Tensor:
        nonlocal batches
        if batches == 5 * stop_at:  # 20 examples by 4 are five batches an epoch
            raise KeyboardInterrupt
        batches += 1
        logits: torch.Tensor = head(inputs[rows, view])
        return logits

    labels = torch.arange(20) % 3
    options = TrainingOptions(epochs=6, batch=4, learning_rate=0.01, bar=False, checkpoint=path)
    history = fit_head(head, forward, labels, 3, 2, options)
    return [epoch.loss for epoch in history], head.state_dict()


@pytest.mark.parametrize("stop_at", [0, 1, 4])
def test_a_killed_training_ends_as_one_that_never_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    monkeypatch.setattr(checkpoint, "_SECONDS", 0)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        learned(path, stop_at)
    assert path.is_file() is (stop_at > 0)
    losses, weights = learned(path)
    expected_losses, expected = learned(None)
    assert losses == expected_losses
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    again, _ = learned(path, 0)  # all is done: not one batch is asked for
    assert again == losses


def test_an_autoencoder_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VAE, whose latent numbers are drawn: eight steps of which three were done."""
    monkeypatch.setattr(checkpoint, "_SECONDS", 0)
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)

    def fitted(path: Path | None, stop_at: int = -1) -> dict[str, torch.Tensor]:
        model = Autoencoder(True, "l2", side=32, steps=8, batch=2, checkpoint=path)
        steps = 0
        plain = model.error_map

        def error_map(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            nonlocal steps
            if steps == stop_at:
                raise KeyboardInterrupt
            steps += 1
            return plain(made, wanted)

        monkeypatch.setattr(model, "error_map", error_map)
        model.fit(images)
        assert model.network is not None
        return model.network.state_dict()

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "checkpoint.pt", 3)
    found, expected = fitted(tmp_path / "checkpoint.pt"), fitted(None)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
