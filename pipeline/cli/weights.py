"""The command `weights`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.cli.options import printed

if TYPE_CHECKING:
    from pipeline.stages.weights import WeightsResult


@click.group()
def weights() -> None:
    """List, fetch and verify the weights of the models."""


@weights.command("list")
@printed
def weights_list() -> WeightsResult:
    """Every name, with its licence and whether its file is here."""
    from pipeline.stages.weights import list_weights

    return list_weights()


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True)
@printed
def weights_fetch(names: tuple[str, ...]) -> WeightsResult:
    """Fetch weights by name, from the first source whose bytes are right."""
    from pipeline.stages.weights import fetch_weights

    return fetch_weights(names)


@weights.command("verify")
@click.argument("names", nargs=-1)
@printed
def weights_verify(names: tuple[str, ...]) -> WeightsResult:
    """Check the files that are here. Exit code 1 if one has other bytes than its name promises."""
    from pipeline.stages.weights import verify_weights

    return verify_weights(names)
