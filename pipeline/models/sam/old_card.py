"""The card of a tuned SAM that version 0.7 wrote, read with today's keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.io.read import checked, read_json
from pipeline.models.cards import SAM_CARD, SamCard

OLD_CARD, OLD_PRIOR = "sam.json", "memory.safetensors"
_PARTS = {"looks": "views", "memory": "patch_prior"}
_VIEWS = {
    "zoom_below": "crop_below",
    "zooms": "crop_scales",
    "turns": "tta",
    "reach": "margin",
    "jitters": "box_jitters",
}
_CALIBRATION = {"kinds": "categories"}
_FIGURES = {"look_agreement": "multiview_agreement"}


def read_old_card(folder: Path) -> SamCard:
    """The card of a folder that finetune-sam of version 0.7 wrote. Raises DataError, which names
    the command that writes the folder again, for a card that lacks a part."""
    path = folder / OLD_CARD
    try:
        return checked(SAM_CARD, _with_todays_keys(read_json(path)), path)
    except DataError as error:
        reason = f"{error.reason}, in a SAM of version 0.7"
        remedy = f"tune it again: pipeline finetune-sam --data DATA --output {folder}"
        raise DataError(path, reason, remedy) from error


def _with_todays_keys(card: JsonValue) -> JsonValue:
    """The same values. `categories` are empty before version 0.6."""
    card = _renamed(card, _PARTS)
    if not isinstance(card, dict):
        return card
    card["kind"] = "sam"
    if "views" in card:
        card["views"] = _renamed(card["views"], _VIEWS)
    calibration = _renamed(card.get("calibration"), _CALIBRATION)
    if isinstance(calibration, dict):
        calibration.setdefault("categories", [])
        names = calibration.get("names")
        if isinstance(names, list):
            calibration["names"] = [
                _FIGURES.get(name, name) if isinstance(name, str) else name for name in names
            ]
        card["calibration"] = calibration
    return card


def _renamed(part: JsonValue, names: Mapping[str, str]) -> JsonValue:
    if not isinstance(part, dict):
        return part
    return {names.get(key, key): value for key, value in part.items()}
