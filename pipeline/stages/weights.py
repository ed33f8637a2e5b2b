"""`pipeline weights`: which weights there are, whether their files are here, and are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from pipeline.errors import PipelineError
from pipeline.models.weights.store import WeightsStore
from pipeline.results import StageResult


@dataclass(frozen=True, kw_only=True)
class WeightsResult(StageResult):
    """A row for each weights file, by name. faults: how many have other bytes than they should."""

    rows: dict[str, dict[str, str | bool] | str]
    faults: int = 0

    def to_json(self) -> dict[str, JsonValue]:
        """The rows alone."""
        return {name: {**row} if isinstance(row, dict) else row for name, row in self.rows.items()}

    @property
    def exit_code(self) -> int:
        """1 if a file is at fault."""
        return int(self.faults > 0)


def list_weights() -> WeightsResult:
    """Every name, with its licence and whether its file is here."""
    store = WeightsStore()
    return WeightsResult(
        rows={
            name: {
                "here": store.has(name),
                "licence": entry.licence,
                "sha256": entry.sha256[:16],
                "about": entry.about,
            }
            for name, entry in store.entries.items()
        }
    )


def fetch_weights(names: Sequence[str]) -> WeightsResult:
    """Download weights from the first source whose bytes are right. Raises WeightsError."""
    store = WeightsStore()
    files = {name: store.get(name) for name in names}
    return WeightsResult(
        rows={
            name: {
                "path": str(file.path),
                "is": file.name,
                "sha256": file.sha256,
                "licence": store.entry(file.name).licence,
            }
            for name, file in files.items()
        }
    )


def verify_weights(names: Sequence[str] = ()) -> WeightsResult:
    """Compare files with their sha256: those of `names`, by default all that are here."""
    store = WeightsStore()
    selected = names or [name for name in store.entries if store.has(name)]
    rows = {name: _verified(store, name) for name in selected}
    return WeightsResult(rows={**rows}, faults=sum(row != "right" for row in rows.values()))


def _verified(store: WeightsStore, name: str) -> str:
    try:
        return "right" if store.verify(name) else "not here"
    except PipelineError as error:
        return str(error)
