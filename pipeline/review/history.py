"""What was done, for people: every action as CSV, and the actions on each object."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import JsonValue

from pipeline.geometry import masks as mask_geometry
from pipeline.io.write import write_text
from pipeline.review.actions import Action
from pipeline.review.store import ReviewStore
from pipeline.review.values import ImageValue, Key, ObjectValue, Value

COLUMNS = (
    "action", "time", "who", "kind", "of_action", "image", "object", "category_before",
    "category_after", "state_before", "state_after", "pixels_before", "pixels_after", "iou",
)  # fmt: skip
_Row = dict[str, str | int | float | None]


def history_csv(store: ReviewStore) -> str:
    """Every action as CSV: a row for each object or image that it changes.

    iou: of the masks before and after, where both exist. Text that a spreadsheet would take for a
    formula starts with an apostrophe.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    names = {image.id: image for image in store.images()}
    for action in store.actions():
        for key in sorted(action.after):
            image = names[action.image]
            writer.writerow(dict(_plain(_row(action, key, image.file_name, image.size, store))))
    return text.getvalue()


def write_history(path: Path, store: ReviewStore) -> None:
    """Write `history_csv` to a file. Raises DataError."""
    write_text(path, history_csv(store))


def histories(actions: Iterable[Action]) -> dict[int, list[JsonValue]]:
    """The actions on each object, by its id: number, time, who and what."""
    found: dict[int, list[JsonValue]] = defaultdict(list)
    for action in actions:
        entry: dict[str, JsonValue] = {
            "action": action.id, "time": action.time, "who": action.who, "kind": action.kind,
        }  # fmt: skip
        if action.target is not None:
            entry["of_action"] = action.target
        for key in action.after:
            if key.kind == "object":
                found[key.id].append(entry)
    return found


def _row(action: Action, key: Key, name: str, size: tuple[int, int], store: ReviewStore) -> _Row:
    before, after = action.before.get(key), action.after[key]
    return {
        "action": action.id,
        "time": action.time,
        "who": action.who,
        "kind": action.kind,
        "of_action": action.target,
        "image": name,
        "object": key.id if key.kind == "object" else None,
        "category_before": _category(before, store),
        "category_after": _category(after, store),
        "state_before": _state(before),
        "state_after": _state(after),
        "pixels_before": _pixels(before, size),
        "pixels_after": _pixels(after, size),
        "iou": _iou(before, after, size),
    }


def _category(value: Value, store: ReviewStore) -> str | None:
    return store.categories[value.category] if isinstance(value, ObjectValue) else None


def _state(value: Value) -> str | None:
    return value.image_state if isinstance(value, ImageValue) else value.state if value else None


def _pixels(value: Value, size: tuple[int, int]) -> int | None:
    rle = value.rle(size) if isinstance(value, ObjectValue) else None
    return None if rle is None else mask_geometry.area(rle)


def _iou(before: Value, after: Value, size: tuple[int, int]) -> float | None:
    both = [value.rle(size) for value in (before, after) if isinstance(value, ObjectValue)]
    masks = [rle for rle in both if rle is not None]
    return round(mask_geometry.paired_iou(*masks), 4) if len(masks) == 2 else None


def _plain(row: _Row) -> Iterator[tuple[str, str | int | float]]:
    for key, value in row.items():
        if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
            yield key, f"'{value}"
        else:
            yield key, "" if value is None else value
