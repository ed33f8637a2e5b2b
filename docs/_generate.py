"""Sphinx extension: the reference pages, from the program itself.

A page in docs/reference says `<!-- generated: commands -->`. When Sphinx reads the page, the line
becomes the Markdown that the function of that name in `GENERATORS` returns. So the command line,
the configuration and the public API cannot disagree with their pages.

python docs/_generate.py commands      prints one part
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import pipeline
from pipeline import cli
from pipeline.config import schema, values

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_SPECIAL = re.compile(r"([\\*_{}\[\]<>|#$~])")
_NAMED = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
_BOUNDS = dict(zip(_NAMED, ("from", "above", "to", "below", "a multiple of"), strict=True))
_ENDLESS = 2**31 - 1  # a bound that says no more than "a number of a usual size"
_Schema = Mapping[str, Any]  # pydantic's JSON schema of one value


def commands() -> str:
    """Every command with its usage, help and options, as `--help` prints them."""
    context = click.Context(cli.command, info_name="pipeline")
    return "\n".join(_command(each) for each in command_contexts(context))


def command_contexts(context: click.Context) -> Iterator[click.Context]:
    """A context for each command below a group, in the group's order; groups come before their
    own commands."""
    group = context.command
    for name in group.list_commands(context) if isinstance(group, click.Group) else ():
        subcommand = group.get_command(context, name) if isinstance(group, click.Group) else None
        if subcommand is not None and not subcommand.hidden:
            child = click.Context(subcommand, info_name=name, parent=context)
            yield child
            yield from command_contexts(child)


def _command(context: click.Context) -> str:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}", "", *_paragraphs(command.help), "```text", usage, "```"]
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [(_code(names), _prose(text)) for names, text in filter(None, records) if text]
    return "\n".join([*lines, "", *_table(("option", "what it does"), rows)])


def config() -> str:
    """Every configuration class with its fields."""
    return "\n".join(_class(each) for each in config_classes())


def config_classes() -> list[type[BaseModel]]:
    """The classes with fields of `pipeline.config.schema`, in its order, then those of `values`
    that they are built of."""
    everything = [*vars(schema).values(), *vars(values).values()]
    classes = dict.fromkeys(each for each in everything if inspect.isclass(each))
    models = (each for each in classes if issubclass(each, BaseModel) and each.model_fields)
    return [each for each in models if each.__module__.startswith("pipeline.config.")]


def _class(kind: type[BaseModel]) -> str:
    properties = kind.model_json_schema()["properties"]
    rows = [
        (_code(name), _values(properties[name]), _default(field), _prose(field.description or ""))
        for name, field in kind.model_fields.items()
    ]
    head = [f"## {kind.__name__}", "", *_paragraphs(inspect.getdoc(kind))]
    table = _table(("key", "values", "default", "what it does"), rows)
    return "\n".join([*head, *table])


def _values(form: _Schema) -> str:
    """The values that a JSON schema allows, in words."""
    if "anyOf" in form:
        return " or ".join(_values(each) for each in form["anyOf"])
    if "allOf" in form and len(form["allOf"]) == 1:
        return _values(form["allOf"][0])
    if "$ref" in form:
        name = str(form["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in form or "const" in form:
        choices = form.get("enum", [form.get("const")])
        return ", ".join(_code(json.dumps(value).strip('"')) for value in choices)
    return _plain_values(form)


def _plain_values(form: _Schema) -> str:
    name = str(form.get("format") or form.get("type") or "any")
    words = [{"null": "none", "array": "list", "object": "mapping"}.get(name, name)]
    if isinstance(inner := form.get("prefixItems"), Sequence):
        words.append(f"of {', '.join(_values(each) for each in inner)}")
    elif isinstance(inner := form.get("items"), Mapping):
        words.append(f"of {_values(inner)}")
    elif isinstance(inner := form.get("additionalProperties"), Mapping):
        words.append(f"of names to {_values(inner)}")
    bounds = {key: word for key, word in _BOUNDS.items() if form.get(key, _ENDLESS) < _ENDLESS}
    return " ".join([*words, *(f"{word} {form[key]:g}" for key, word in bounds.items())])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    shown = _shown(field.get_default(call_default_factory=True, validated_data={}))
    return "the class's own" if shown == "{}" else _code(shown)


def _shown(value: object) -> str:
    """A value as YAML on one line; of a configuration, what differs from its own defaults."""
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_shown(each) for each in value)}]"
    if isinstance(value, enum.Enum):
        return str(value.value)
    return json.dumps(value, default=str).strip('"')


def formats() -> str:
    """Every label format by the name that `--to` and `--from` take."""
    from pipeline.formats.registry import FORMATS

    rows = [(_code(name), _prose(form.about)) for name, form in FORMATS.items()]
    return "\n".join(_table(("format", "what it is"), rows))


def weights() -> str:
    """Every weights file of the registry."""
    from pipeline.models.weights.store import WeightsStore

    rows = [
        (_code(name), _prose(entry.about), _prose(entry.licence), _code(entry.sha256[:16]))
        for name, entry in WeightsStore().entries.items()
    ]
    return "\n".join(_table(("name", "what it is", "licence", "sha256"), rows))


def api() -> str:
    """Every name of `pipeline.__all__`, for autodoc."""
    names = [name for name in getattr(pipeline, "__all__", ()) if not name.startswith("_")]
    rooms: dict[str, list[str]] = {"Functions": [], "Classes": [], "Values": []}
    for name in names:
        rooms[_room(getattr(pipeline, name))].append(name)
    lines = []
    for title, inside in rooms.items():
        if inside:
            lines += [f"## {title}", ""]
        for name in inside:
            lines += [f"### {name}", "", "```{eval-rst}", _AUTODOC[title].format(name), "```", ""]
    return "\n".join(lines)


_AUTODOC = {
    "Functions": ".. autofunction:: pipeline.{}",
    "Classes": ".. autoclass:: pipeline.{}\n   :members:",
    "Values": ".. autodata:: pipeline.{}",
}


def _room(thing: object) -> str:
    if get_origin(thing) is not None:  # the name of a type, such as Image
        return "Values"
    return "Classes" if inspect.isclass(thing) else "Functions" if callable(thing) else "Values"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`"


def _paragraphs(text: str | None) -> list[str]:
    """A docstring's paragraphs, each followed by an empty line."""
    parts = inspect.cleandoc(text or "").replace("\b", "").split("\f")[0].split("\n\n")
    return [line for part in parts if part.strip() for line in (_prose(part), "")]


def _prose(text: str) -> str:
    """Text on one line that Markdown shows as it is, with `code` in backticks."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(
        piece.replace("|", "\\|") if piece.startswith("`") else _SPECIAL.sub(r"\\\1", piece)
        for piece in pieces
    )


GENERATORS: Mapping[str, Callable[[], str]] = {
    each.__name__: each for each in (commands, config, formats, weights, api)
}


def fill(text: str) -> str:
    """A page with each mark replaced. Raises KeyError for a mark that names no generator."""
    return _MARK.sub(lambda mark: GENERATORS[mark[1]](), text)


def _fill(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = fill(source[0])


def _outdated(app: Sphinx, *_: object) -> list[str]:
    """The pages with marks: Sphinx sees only that their own files did not change."""
    env = app.env
    return [name for name in env.found_docs if _MARK.search(env.doc2path(name).read_text("utf-8"))]


def _as_prose(*event: Any) -> None:
    """A docstring, the last part of autodoc's event, as plain paragraphs: here it is text with
    `code`, not reStructuredText."""
    lines: list[str] = event[-1]
    paragraphs = [" ".join(part.split()) for part in "\n".join(lines).split("\n\n")]
    lines[:] = [line for part in paragraphs for line in (_rst(part), "")]


def _rst(text: str) -> str:
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        f"`{piece}`" if piece.startswith("`") else re.sub(r"([\\*_|`])", r"\\\1", piece)
        for piece in pieces
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this once."""
    app.connect("source-read", _fill)
    app.connect("env-get-outdated", _outdated)
    app.connect("autodoc-process-docstring", _as_prose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    print(GENERATORS[sys.argv[1]]())
