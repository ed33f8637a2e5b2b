"""A configuration from YAML and options. What is wrong becomes one plain error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from pipeline.config.values import Config, Settings, SettingValue
from pipeline.errors import ConfigError, DataError
from pipeline.io.read import parse_yaml, shown_value
from pipeline.io.read import read_yaml as read_foreign_yaml

_SHOWN = 5  # faults in one message
C = TypeVar("C", bound=Config)


def build(kind: type[C], *layers: Settings) -> C:
    """One configuration from layers of values, later ones winning. None is a value, as in
    `classify: null`, which leaves the classifier out.

    Raises ConfigError that names the key and what is wrong with it.
    """
    merged: Settings = {}
    for layer in layers:
        merged = _merge(merged, layer)
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        faults = [_fault(entry) for entry in error.errors(include_url=False, include_context=False)]
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise ConfigError("; ".join([*faults[:_SHOWN], *more])) from error


def read_yaml(path: Path) -> Settings:
    """A YAML mapping. Raises ConfigError for a missing file, bad YAML or anything but a mapping."""
    try:
        content = read_foreign_yaml(path)
    except DataError as error:
        if error.reason != "no such file":
            raise ConfigError(str(error)) from error
        raise ConfigError(f"{path}: cannot be read ({error.reason}); {error.remedy}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: needs 'key: value' lines")
    return cast(Settings, content)


def parse_settings(settings: Sequence[str]) -> Settings:
    """`--set a.b=value` to {"a": {"b": value}}; values are YAML. Raises ConfigError."""
    merged: Settings = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {_shortened(setting)}: write it as key=value")
        try:
            parsed: SettingValue = parse_yaml(value, Path("--set"))
        except DataError as error:
            raise ConfigError(f"--set {_shortened(setting)}: the value is not YAML") from error
        merged = _merge(merged, nested(key.split("."), parsed))
    return merged


def nested(path: Sequence[str], value: SettingValue) -> Settings:
    """("a", "b") and a value to {"a": {"b": value}}. path: one name or more."""
    *outer, last = path
    settings: Settings = {last: value}
    for name in reversed(outer):
        settings = {name: settings}
    return settings


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _merge(low: Settings, high: Settings) -> Settings:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged


def _fault(entry: Any) -> str:
    key = ".".join(str(step) for step in entry["loc"])[:200]
    if entry["type"] == "extra_forbidden":
        return f"unknown key: {shown_value(key)}"
    if entry["type"] == "missing":
        return f"{key}: is missing"
    message = entry["msg"].removeprefix("Value error, ")
    if isinstance(entry["input"], dict):  # a rule over several keys, which it names
        return f"{key}: {message}".removeprefix(": ")
    return f"{key}: {message[0].lower()}{message[1:]}, got {shown_value(entry['input'])}"
