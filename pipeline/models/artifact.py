"""Folders of trained models: card.json with the `kind` of the model, and for most
models model.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.io.read import sha256_of
from pipeline.io.write import whole_file, write_json
from pipeline.models.cards import ModelCard, read_kind, read_model_card
from pipeline.models.tensors import read_tensors

CARD, TENSORS = "card.json", "model.safetensors"
_CARDS_OF_0_7 = {"detector.json": "yolo-world", "sam.json": "sam"}  # none of them names a kind


def save_artifact(
    folder: Path, state: Mapping[str, torch.Tensor], card: Mapping[str, JsonValue]
) -> None:
    """Write model.safetensors, and card.json with its sha256."""
    from safetensors.torch import save

    with whole_file(folder / TENSORS) as temporary:
        temporary.write_bytes(save({key: v.cpu().contiguous() for key, v in state.items()}))
    write_json(folder / CARD, {**card, "sha256": sha256_of(folder / TENSORS)})


def model_kind(folder: Path) -> str | None:
    """The kind of the model in a folder, also of version 0.7; None for a folder without a card.
    Raises DataError for a card that cannot be read or is of no kind in `cards.KINDS`."""
    if (folder / CARD).exists():
        return read_kind(folder / CARD)
    return next((kind for name, kind in _CARDS_OF_0_7.items() if (folder / name).exists()), None)


def read_artifact(folder: Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    """The checked card, and the tensors. Raises DataError for a folder without a card, or with one
    of another kind, WeightsError if the tensors do not have the sha256 in the card."""
    if not (folder / CARD).exists():
        raise DataError(
            folder, "holds no model", "give a folder of finetune-yolo, classify or anomaly"
        )
    card = read_model_card(folder / CARD)
    return card, read_tensors(folder / TENSORS, card.sha256, CARD)
