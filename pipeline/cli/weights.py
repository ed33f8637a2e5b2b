"""The verb `weights`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import printed
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.models.weights.store import WeightsStore


@click.group()
def weights() -> None:
    """List, fetch and verify the weights of the models."""


def _store() -> WeightsStore:
    from pipeline.models.weights.store import WeightsStore

    return WeightsStore()


@weights.command("list")
@printed
def weights_list() -> Any:
    """Every name, with its licence and whether its file is here."""
    store = _store()
    return {
        name: {
            "here": store.has(name),
            "licence": entry.licence,
            "sha256": entry.sha256[:16],
            "about": entry.about,
        }
        for name, entry in store.entries.items()
    }


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True)
@printed
def weights_fetch(names: tuple[str, ...]) -> Any:
    """Fetch weights by name, from the first source whose bytes are right."""
    store = _store()
    found = {name: store.get(name) for name in names}
    return {
        name: {"path": str(file.path), "is": file.name, "sha256": file.sha256,
               "licence": store.entry(file.name).licence}
        for name, file in found.items()
    }  # fmt: skip


@weights.command("verify")
@click.argument("names", nargs=-1)
@printed
def weights_verify(names: tuple[str, ...]) -> Any:
    """Check the files that are here; exit code 1 when one is not what its name promises."""
    store, result, code = _store(), {}, 0
    for name in names or [name for name in store.entries if store.has(name)]:
        try:
            result[name] = "right" if store.verify(name) else "not here"
        except PipelineError as error:
            result[name] = str(error)
        code = max(code, int(result[name] != "right"))
    return {**result, "exit_code": code} if code else result
