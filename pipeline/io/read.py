"""Reading foreign files: regular files only, with types, and one line for each fault.

Every foreign file is read by one of these functions. None of them runs, unpickles or opens
anything that a file names.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import stat
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar
from xml.etree import ElementTree

import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import DataError
from pipeline.io.stored import refuse_pointer

RUN_FILE = "run.json"  # every command writes one into its output folder
TEXT_LIMIT = 4 << 30  # bytes of a JSON, XML, YAML or text file
_YAML_LIMIT = 16 << 20
_YAML_NODES = 1_000_000  # an alias counts with all nodes of its target
_TAG_ERRORS = (TypeError, LookupError, AttributeError)  # PyYAML's, at tags such as `!!bool maybe`
_CHUNK = 1 << 20
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{1,100}encoding\s*=\s*["']([\w.-]{1,40})["']""")
_OF_XML = {  # by the name that XML declares, of encodings that expat does not know
    "gb2312": "gb18030", "gbk": "gb18030", "cp936": "gb18030", "gb18030": "gb18030",
    "big5": "cp950", "shift_jis": "cp932", "windows-31j": "cp932",
    "euc-jp": "euc_jp", "euc-kr": "cp949",
}  # fmt: skip
_SHOWN = 80  # characters of a foreign value in a message

Value = TypeVar("Value")

_JUNK = {"@eaDir", "#recycle", "__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"}


def open_regular(path: Path, limit: int | None = None) -> IO[bytes]:
    """Open a regular file for reading. Raises DataError for what is missing, is a folder, or would
    block or never end (a pipe, a socket, a device), over `limit` bytes, and for the pointer of a
    large file that git LFS did not download."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _binary())
    except FileNotFoundError:
        raise DataError(path, "no such file", "check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise unreadable(path, error) from error
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise DataError(path, "is not a regular file", "give a file, not a folder, pipe or device")
    if limit is not None and state.st_size > limit:
        os.close(descriptor)
        raise DataError(path, f"has {state.st_size} bytes, more than {limit}", "split it")
    stream = os.fdopen(descriptor, "rb")
    try:
        refuse_pointer(path, stream, state.st_size)
    except DataError:
        stream.close()
        raise
    except OSError as error:
        stream.close()
        raise unreadable(path, error) from error
    return stream


def read_bytes(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """The bytes of a regular file. Raises DataError as `open_regular`, and over `limit` bytes."""
    with open_regular(path, limit) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise unreadable(path, error) from error


def read_text(path: Path, limit: int = TEXT_LIMIT) -> str:
    """The text of a UTF-8 file, or of a UTF-16 file with a byte order mark. The mark is skipped.
    Raises DataError."""
    data = read_bytes(path, limit)
    is_utf16 = data[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text (byte {error.start})"
        raise DataError(path, reason, "save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file, not checked further; see `checked`. Raises DataError for what is
    not JSON, and for numbers or nestings that are far too large."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}: {error.msg}"
        raise DataError(path, f"is not JSON ({where})", "write it again") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(path, f"is not usable JSON ({reason})", "write it again") from error


def read_yaml(path: Path, as_written: bool = False) -> Any:
    """The content of a YAML file as plain values; no tag makes an object. as_written: as in
    `parse_yaml`. Raises DataError."""
    return parse_yaml(read_text(path, _YAML_LIMIT), path, as_written)


def parse_yaml(text: str, path: Path, as_written: bool = False) -> Any:
    """Plain values from YAML text that came from `path`. as_written: words that YAML takes as truth
    values, numbers or dates (`no`, `007`) stay text. Raises DataError for what is not YAML, is
    nested too deeply, or grows far too large by its aliases."""
    try:
        content = yaml.load(text, _WordLoader if as_written else _PlainLoader)
        _count_nodes(content)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, *_TAG_ERRORS) as error:
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(path, f"is not YAML ({first})", "correct it") from error
    return content


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that refuses keys that are not hashable."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        for key in mapping:
            if not isinstance(key, Hashable):
                raise yaml.YAMLError("a key that is a list")
        return mapping


class _WordLoader(_PlainLoader):
    """The same, where only nothing (`null`, `~`) is no text."""


_WordLoader.yaml_implicit_resolvers = {
    start: [(tag, words) for tag, words in rules if tag.rpartition(":")[2] in {"null", "merge"}]
    for start, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _count_nodes(content: Any) -> None:
    """Raise ValueError when a tree has too many nodes, or holds itself."""
    left, stack = _YAML_NODES, [content]
    while stack:
        node = stack.pop()
        left -= 1
        if left < 0:
            raise ValueError("its aliases expand without end")
        if isinstance(node, dict):
            stack += node.values()
        elif isinstance(node, list):
            stack += node


def read_xml(path: Path, tag: str | None = None) -> ElementTree.Element:
    """The root of an XML file; entities are refused. Raises DataError, also for a root that is not
    `tag`."""
    content = _xml_content(path)
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(path, f"is not readable XML ({reason})", "export it again") from error
    if tag is not None and root.tag != tag:
        raise DataError(path, f"is XML of <{root.tag}>, not <{tag}>", "check the path")
    return root


def _xml_content(path: Path) -> str | bytes:
    """The content of an XML file, decoded where it declares a Chinese, Japanese or Korean
    encoding."""
    data = read_bytes(path)
    match = _DECLARED.match(data)
    name = match[1].decode() if match else ""
    if (codec := _OF_XML.get(name.lower())) is None:
        return data
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        reason = f"declares {name}, and is not {name} text (byte {error.start})"
        raise DataError(path, reason, "save it as UTF-8") from error


def checked(kind: TypeAdapter[Value], value: Any, path: Path, where: str = "") -> Value:
    """`value` as the type of `kind`. Raises DataError with the file, the place in it (`where` and
    the key), the fault and the value."""
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise DataError(path, explain(error, where), "correct it") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise DataError(path, f"{where}: {error}" if where else str(error), "correct it") from error


def explain(error: ValidationError, where: str = "") -> str:
    """The first fault of a validation as one clause: place, fault, value."""
    fault = error.errors(include_url=False)[0]
    names = [key for key in fault["loc"] if not str(key).startswith("function-")]
    keys = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in names)
    place = " ".join(part for part in (where, keys.lstrip(".")) if part)
    shown = shown_value(fault["input"])
    if fault["type"] == "missing":
        return f"{place}: is missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message[0].lower()}{message[1:]}, got {shown}".removeprefix(": ")


def shown_value(value: Any) -> str:
    """A foreign value as text for a message: short, on one line, printable."""
    if isinstance(value, (dict, list)):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:
        return f"a number of {value.bit_length()} bits"
    text = repr(value).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def sha256_of(path: Path) -> str:
    """Hex sha256 of a regular file's bytes, read in chunks. Raises DataError."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def is_junk(name: str) -> bool:
    """Whether a file or folder is a system's own: hidden, or made by a NAS, a Mac or Windows."""
    return name.startswith(".") or name in _JUNK


def files_below(root: Path) -> Iterator[str]:
    """Every file below a folder, in a fixed order, one folder's names in memory at a time.

    Hidden files, junk of systems, and folders that a command of this pipeline wrote, are left out.
    Files that are not regular are listed: reading them raises DataError.
    """
    for folder, below, names in os.walk(root):
        if RUN_FILE in names and folder != str(root):
            below.clear()
            continue
        below[:] = sorted(name for name in below if not is_junk(name))
        yield from (
            os.path.join(folder, name)  # noqa: PTH118  # a million Paths would not fit in memory
            for name in sorted(name for name in names if not is_junk(name))
        )


def _binary() -> int:
    return getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def unreadable(path: Path, error: OSError | ValueError) -> DataError:
    reason = error.strerror if isinstance(error, OSError) else "not a valid file name"
    return DataError(path, f"cannot be read ({reason or error})", "check it")
