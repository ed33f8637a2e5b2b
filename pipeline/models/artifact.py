"""Models on disk: model.safetensors and a card that says what made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import DataError
from pipeline.io.read import sha256_of
from pipeline.io.write import whole_file, write_json
from pipeline.models.cards import read_model_card, read_tensors

CARD, TENSORS = "card.json", "model.safetensors"


def save_artifact(folder: Path, state: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
    """Write both files; the card names the sha256 of the tensors."""
    from safetensors.torch import save

    with whole_file(folder / TENSORS) as temporary:
        temporary.write_bytes(save({key: v.cpu().contiguous() for key, v in state.items()}))
    write_json(folder / CARD, {**card, "sha256": sha256_of(folder / TENSORS)})


def read_artifact(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The card, checked, and the tensors. Raises DataError where there is none or it is not of a
    model, WeightsError where the tensors are not those that the card names."""
    if not (folder / CARD).exists():
        raise DataError(
            folder, "holds no model", "give a folder of finetune-yolo, classify or anomaly"
        )
    card = read_model_card(folder / CARD)
    return card, read_tensors(folder / TENSORS, card["sha256"], CARD)
