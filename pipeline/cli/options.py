"""What the verbs share: options, configuration, and how a summary is printed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.errors import one_line
from pipeline.results import StageResult
from pipeline.runtime.progress import clear_bars, set_quiet

Command = Callable[..., Any]
FILE = click.Path(path_type=Path)


def common(verb: Command) -> Command:
    """--quiet and --json; the verb returns its summary, which is printed here."""

    @click.option("--quiet", "-q", is_flag=True, help="No progress, no notices.")
    @click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
    @functools.wraps(verb)
    def wrapped(quiet: bool, as_json: bool, **options: Any) -> Any:
        set_quiet(quiet)
        result = verb(**options)
        code = result.exit_code if isinstance(result, StageResult) else 0
        summary = result.to_json() if isinstance(result, StageResult) else result
        clear_bars()
        if summary is None:
            return None
        if as_json:
            print(one_line(json.dumps(summary, sort_keys=True, ensure_ascii=False)))
        elif not quiet:
            _print({key: value for key, value in summary.items() if key != "exit_code"})
        return code or summary.get("exit_code", 0)

    return wrapped


def _print(summary: Mapping[str, Any], indent: str = "") -> None:
    for key, value in summary.items():
        name = indent + key.replace("_", " ")
        if isinstance(value, Mapping):
            flat = all(not isinstance(inner, (Mapping, list)) for inner in value.values())
            if flat and len(value) <= 5:
                print(
                    one_line(f"{name}: " + ", ".join(f"{k} {_text(v)}" for k, v in value.items()))
                )
            else:
                print(one_line(f"{name}:"))
                _print(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], str) and len(value) > 2:
            print(f"{name}: {len(value)}")
            for line in value:
                print(one_line(f"{indent}  {line}"))
        elif value not in ([], None, ""):
            print(one_line(f"{name}: {_text(value)}"))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(_text(inner) for inner in value)
    return "-" if value is None else str(value)


OUTPUT = click.option("--output", "-o", type=FILE, required=True, help="Folder to write.")
SEED = click.option("--seed", type=int, help="Seed of all that chance decides [0].")
DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, 0, or 0,1 [auto].")
OUTSIDE = click.option(
    "--allow-outside", is_flag=True, help="Take images from outside the named folders too."
)
KEEP = click.option("--keep-going", is_flag=True, help="Skip bad files and report them at the end.")
CONFIG = click.option("--config", type=FILE, help="YAML file with this command's settings.")
OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Drop unfinished work of other settings."
)
SET = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting.")


def options(*options: Command) -> Callable[[Command], Command]:
    def apply(verb: Command) -> Command:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return apply


def build(kind: str, config: Path | None, settings: tuple[str, ...], **said: Any) -> Any:
    """The configuration `kind`: defaults, then the file, then the options, then --set."""
    from pipeline.config import load as chosen
    from pipeline.config import schema as configs

    layers = [chosen.read_yaml(config)] if config else []
    layers += [{k: v for k, v in said.items() if v is not None and v is not False}]
    return chosen.build(getattr(configs, kind), *layers, chosen.parse_settings(settings))
