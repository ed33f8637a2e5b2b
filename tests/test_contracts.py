"""The import contracts of pyproject.toml name every module. `lint-imports` checks the imports."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def layers_of(container: str) -> list[str]:
    """Names in the contract of layers within one package, as often as they are named."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [
        contract
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and contract["containers"] == [container]
    ]
    assert len(contracts) == 1
    assert contracts[0]["exhaustive"] is True
    layers: list[str] = contracts[0]["layers"]
    return [name for layer in layers for name in layer.replace("|", ":").split(":")]


def modules_of(container: str) -> set[str]:
    """Names of the modules and packages directly in one package."""
    folder = ROOT.joinpath(*container.split("."))
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


@pytest.mark.parametrize("container", ["pipeline", "pipeline.stages"])
def test_every_module_has_one_layer(container: str) -> None:
    named = [name.strip() for name in layers_of(container)]
    assert sorted(named) == sorted(modules_of(container))
