"""Models on disk: model.safetensors and a card that says what made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import DataError, WeightsError
from pipeline.io.read import read_json, sha256_of
from pipeline.io.write import whole_file, write_json

CARD, TENSORS = "card.json", "model.safetensors"


def save_model(folder: Path, state: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
    """Write both files; the card names the sha256 of the tensors."""
    from safetensors.torch import save

    with whole_file(folder / TENSORS) as temporary:
        temporary.write_bytes(save({key: v.cpu().contiguous() for key, v in state.items()}))
    write_json(folder / CARD, {**card, "sha256": sha256_of(folder / TENSORS)})


def read_model(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The card and the tensors. Raises DataError where there is none, WeightsError where the
    tensors are not those that the card names."""
    from safetensors.torch import load_file

    if not (folder / CARD).is_file():
        raise DataError(
            folder, "holds no model", "give a folder of finetune-yolo, classify or anomaly"
        )
    card = read_json(folder / CARD)
    if not isinstance(card, dict) or "kind" not in card:
        raise DataError(folder / CARD, "is not a model's card", "train the model anew")
    path = folder / TENSORS
    if not path.is_file() or sha256_of(path) != card.get("sha256"):
        raise WeightsError(f"{path}: is not what {CARD} names; train the model anew")
    return card, load_file(path)
