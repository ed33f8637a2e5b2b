"""Options of the command line, generated from the fields of a configuration.

A command names its configuration; each simple field becomes an option with the field's name, type,
default and description, and `--config` and `--set` reach the others. So `--help`, YAML and the
reference cannot disagree. A configuration is imported only when a command's options are needed, and
without those of other commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from pipeline.cli.places import FILE
from pipeline.config.load import build, nested, parse_settings, read_yaml
from pipeline.config.values import Config, Settings, SettingValue

# Modules of configurations; the last has all of them.
_MODULES = ("labels", "detection", "image_level", "segmentation", "schema")


class _OptionArguments(TypedDict, total=False):
    """Arguments of `click.Option`. nargs: values of a pair."""

    is_flag: bool
    nargs: int
    type: click.Choice[str] | click.Path | type


@dataclass(frozen=True)
class Setting:
    """One field that is an option. `path`: the field's name, or those of a nested one."""

    path: tuple[str, ...]
    field: FieldInfo
    kind: Any

    @property
    def parameter(self) -> str:
        """The name of the option in Python; unique among those of a configuration."""
        return "setting_" + "_".join(self.path)

    def option(self) -> click.Option:
        """The option: `--long-name`, its type, and help with default and range."""
        flag = "--" + self.path[-1].replace("_", "-")
        extra: _OptionArguments = {}
        if self.kind is bool:
            flag = f"{flag}/--no-{flag[2:]}"
            extra = {"is_flag": True}
        elif get_origin(self.kind) is Literal:
            extra = {"type": click.Choice([str(choice) for choice in get_args(self.kind)])}
        elif get_origin(self.kind) is tuple:
            extra = {"nargs": len(get_args(self.kind)), "type": get_args(self.kind)[0]}
        elif self.kind is Path:
            extra = {"type": FILE}
        elif self.kind in (int, float):
            extra = {"type": self.kind}
        return click.Option([flag, self.parameter], default=None, help=self._help(), **extra)

    def value(self, raw: SettingValue) -> SettingValue:
        """The value for the configuration. A choice among numbers comes as text."""
        if get_origin(self.kind) is Literal:
            choices: tuple[str | int, ...] = get_args(self.kind)
            return next(choice for choice in choices if str(choice) == raw)
        return raw

    def _help(self) -> str:
        default = self.field.get_default(call_default_factory=False)
        default_text = "" if default is None or default is False else f" [{_shown(default)}]"
        return f"{self.field.description}{default_text}"


def settings_of(kind: type[Config], prefix: tuple[str, ...] = ()) -> Iterator[Setting]:
    """The fields of a configuration that are options: numbers, texts, choices, paths and pairs of
    numbers, those of nested views among them."""
    for name, field in kind.model_fields.items():
        option_type = _option_type(field.annotation)
        if _has_own_options(option_type):
            own_names = set(kind.model_fields)
            nested = settings_of(option_type, (*prefix, name))
            yield from (setting for setting in nested if setting.path[-1] not in own_names)
        elif option_type is not None:
            yield Setting((*prefix, name), field, option_type)


def _option_type(annotation: Any) -> Any:
    """The type of a field without Annotated and None; None where it is no option."""
    if get_origin(annotation) is Annotated:
        return _option_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        inner = [_option_type(kind) for kind in get_args(annotation) if kind is not NoneType]
        return inner[0] if len(inner) == 1 else str  # such as a number or a word
    if get_origin(annotation) is tuple:
        members = [_option_type(kind) for kind in get_args(annotation)]
        return tuple[tuple(members)] if all(kind in (int, float) for kind in members) else None  # type: ignore[misc]
    if get_origin(annotation) is Literal or annotation in (bool, int, float, str, Path):
        return annotation
    return annotation if _has_own_options(annotation) else None


def _has_own_options(kind: Any) -> bool:
    """Whether the fields of a nested configuration are options of the command."""
    return isinstance(kind, type) and issubclass(kind, Config) and kind.has_own_options


def _shown(value: Any) -> str:
    if value is True:
        return "on"
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def build_config(
    config_name: str,
    file: Path | None,
    assignments: Sequence[str],
    values: Settings,
    defaults: Settings,
) -> Config:
    """The configuration: defaults, then the YAML file, then the options, then `--set`.

    defaults: those of the command, where they differ from the configuration's. values: those of the
    options by `Setting.parameter`; None for one that was not given. Raises ConfigError that names
    the key and what is wrong with it.
    """
    kind = config_of(config_name)
    layers = [defaults, *([read_yaml(file)] if file else [])]
    for setting in settings_of(kind):
        if (text := values.get(setting.parameter)) is not None:
            layers.append(nested(setting.path, setting.value(text)))
    return build(kind, *layers, parse_settings(assignments))


def config_of(name: str) -> type[Config]:
    """The configuration of this name."""
    modules = (import_module(f"pipeline.config.{module}") for module in _MODULES)
    kind: type[Config] = next(vars(module)[name] for module in modules if name in vars(module))
    return kind
