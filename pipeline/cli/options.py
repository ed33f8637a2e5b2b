"""What the commands share: their options, their configuration, and how a result is printed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.places import FILE, called, fetched
from pipeline.cli.wrong_format import named
from pipeline.errors import DataError, one_line
from pipeline.runtime.progress import clear_bars, set_quiet

if TYPE_CHECKING:
    from pydantic import JsonValue

Verb = Callable[..., Any]

OUTPUT = click.option("--output", "-o", type=FILE, required=True, help="Folder to write.")
DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, 0, or 0,1 [auto].")
OUTSIDE = click.option(
    "--allow-outside",
    is_flag=True,
    help="Read images that lie, or lead by a link, outside the named folders.",
)
KEEP = click.option("--keep-going", is_flag=True, help="Skip bad files and list them at the end.")
OVERWRITE = click.option(
    "--overwrite", is_flag=True, help="Delete unfinished work of other settings."
)
RUNNER = click.option(
    "--runner", type=click.Choice(["local", "ray"]), default="local",
    help="Where the work is done: on this machine, or on a Ray cluster [local].",
)  # fmt: skip
WORKERS = click.option(
    "--workers", type=int, default=1,
    help="Processes, each with models of its own; 0 is one for each core [1].",
)  # fmt: skip
LEARNERS = click.option(
    "--workers", type=int, default=1,
    help="Processes that learn together, each from its share of a batch, with --runner ray [1].",
)  # fmt: skip
_CONFIG = click.option(
    "--config", "config_file", type=FILE, help="YAML file with this command's settings."
)
_SET = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="One setting; may be repeated."
)


def options(*options: Verb) -> Callable[[Verb], Verb]:
    """Several options as one decorator, in this order."""

    def apply(verb: Verb) -> Verb:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return apply


def printed(verb: Verb) -> Verb:
    """Add --quiet and --json. The verb returns a result, which is printed here, or None. It works
    on copies of what has an address."""
    return _printed(functools.wraps(verb)(lambda **values: called(verb, values)))


def _printed(verb: Verb) -> Verb:

    @click.option("--quiet", "-q", is_flag=True, help="No progress, no notices.")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
    @functools.wraps(verb)
    def wrapped(quiet: bool, as_json: bool, **values: Any) -> int:
        from pipeline.io.rotated_photos import RotatedPhotos

        set_quiet(quiet)
        rotated = RotatedPhotos()
        try:
            result = verb(**values)
        except DataError as error:
            raise named(error, click.get_current_context().info_name or "", values) from error
        clear_bars()
        if result is None:
            return 0
        from pipeline.results import StageResult

        if isinstance(result, StageResult):
            summary, code = result.to_json(), result.exit_code
        else:
            summary, code = result, result.pop("exit_code", 0)
        if count := len(rotated):
            summary["exif_rotated_read_upright"] = count
        if as_json:
            print(one_line(json.dumps(summary, sort_keys=True, ensure_ascii=False)))
        elif not quiet:
            _print(summary)
        return int(code)

    return wrapped


def configured(
    config_name: str,
    name: str | None = None,
    *,
    but: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    file_argument: bool = False,
) -> Callable[[Verb], click.Command]:
    """Make a command of a verb whose first argument is a configuration.

    config_name: of a class of `pipeline.config.schema`, whose fields become options. but: fields
    that do not. defaults: those of this command, where they differ from the class's. file_argument:
    the YAML file is an argument in place of `--config`.
    """

    def decorate(verb: Verb) -> click.Command:
        @functools.wraps(verb)
        def with_config(
            config_file: Path | None, assignments: tuple[str, ...], **values: Any
        ) -> Any:
            from pipeline.cli.generated import build_config

            of_config = {key: value for key, value in values.items() if key.startswith(_PREFIX)}
            file = fetched(config_file)
            config = build_config(config_name, file, assignments, of_config, defaults or {})
            others = {k: v for k, v in values.items() if k not in of_config}
            return called(verb, {"config": config, **others})

        file = click.argument("config_file", metavar="CONFIG", type=FILE)
        with_options = options(file if file_argument else _CONFIG, _SET)(with_config)
        command = click.command(name, cls=ConfiguredCommand, config_name=config_name, but=but)
        return command(_printed(with_options))

    return decorate


_PREFIX = "setting_"  # of the parameters that are fields of a configuration


class ConfiguredCommand(click.Command):
    """A command with an option for each simple field of its configuration. They are made when they
    are first needed, because the import of the schema is too slow for `pipeline --help`."""

    def __init__(self, *args: Any, config_name: str, but: Sequence[str] = (), **extra: Any) -> None:
        self.config_name, self.but = config_name, tuple(but)
        self._params: list[click.Parameter] = []
        self._is_complete = False
        super().__init__(*args, **extra)

    @property
    def params(self) -> list[click.Parameter]:
        """The declared parameters, then those of the configuration: one list, as click changes it
        in place."""
        if not self._is_complete:
            from pipeline.cli.generated import config_of, settings_of

            self._is_complete = True
            fields = settings_of(config_of(self.config_name))
            self._params += [s.option() for s in fields if s.path[-1] not in self.but]
        return self._params

    @params.setter
    def params(self, declared: list[click.Parameter]) -> None:
        self._params = declared


def _print(result: Mapping[str, JsonValue], indent: str = "") -> None:
    for key, value in result.items():
        name = indent + key.replace("_", " ")
        if value in ([], {}, None, ""):
            continue
        if isinstance(value, Mapping):
            _print_mapping(name, value, indent)
        elif isinstance(value, list) and _needs_lines(value):
            print(f"{name}: {len(value)}")
            for line in value:
                text = _flat(line) if isinstance(line, Mapping) else line
                print(one_line(f"{indent}  {text}"))
        else:
            print(one_line(f"{name}: {_text(value)}"))


def _needs_lines(values: Sequence[Any]) -> bool:
    """Whether texts are too many for one line, or two sentences that would run into each other, or
    rows of figures."""
    if values and isinstance(values[0], Mapping):
        return True
    if not values or not isinstance(values[0], str):
        return False
    return len(values) > 2 or (len(values) == 2 and any(" " in text for text in values))


def _print_mapping(name: str, value: Mapping[str, JsonValue], indent: str) -> None:
    """On one line if it is short and flat. Sentences have a line each, after their names as they
    are: these are names of files."""
    is_flat = not any(isinstance(inner, (Mapping, list)) for inner in value.values())
    if any(isinstance(inner, str) and " " in inner for inner in value.values()) and is_flat:
        print(one_line(f"{name}:"))
        for key, inner in value.items():
            print(one_line(f"{indent}  {key}: {_text(inner)}"))
    elif len(value) <= 5 and is_flat:
        print(one_line(f"{name}: {_flat(value)}"))
    else:
        print(one_line(f"{name}:"))
        _print(value, indent + "  ")


def _flat(value: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(_text(inner) for inner in value)
    return "-" if value is None else str(value)
