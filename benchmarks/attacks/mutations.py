"""One change to one file, chosen by chance: in its structure, in its bytes, or to what it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree

import yaml

from .pixels import mutate_array, mutate_picture
from .values import DEEP, Places, entity_bomb, json_value, plain_text, yaml_value

_RAW = "RAWVALUE"  # a place in a tree, replaced by raw text once the tree is text
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def mutate(path: Path, random: Random, places: Places) -> str:
    """Change the file at `path`; returns what was done."""
    kind = random.random()
    if kind < 0.08:
        return _replace(path, random, places)
    data = path.read_bytes()
    if kind < 0.3:
        changed, what = _bytes(data, random)
    else:
        changed, what = _structure(path.suffix.lower(), data, random, places)
    _put(path, changed)
    return f"{path.relative_to(places.sample)}: {what}"


def _structure(suffix: str, data: bytes, random: Random, places: Places) -> tuple[bytes, str]:
    if suffix in _PICTURES:
        return mutate_picture(data, random)
    if suffix == ".npy":
        return mutate_array(data, random, places)
    by_suffix: dict[str, Callable[[str, Random, Places], tuple[str, str]]] = {
        ".json": _json, ".xml": _xml, ".yaml": _yaml, ".yml": _yaml, ".jsonl": _lines_of_json,
        ".txt": _rows, ".csv": _rows, ".labels": _rows, "": _rows,
    }  # fmt: skip
    change = by_suffix.get(suffix)
    if change is None:
        return _bytes(data, random)
    text, what = change(data.decode(), random, places)
    return text.encode("utf-8", "surrogatepass"), what


def _put(path: Path, data: bytes) -> None:
    path.unlink()  # it may be a link to the template's
    path.write_bytes(data)


def _replace(path: Path, random: Random, places: Places) -> str:
    """Put something else in the file's place."""
    chosen = random.choice(
        ["empty", "folder", "pipe", "secret", "outside", "nowhere", "loop", "zero", "gone", "photo"]
    )
    path.unlink()
    if chosen == "empty":
        path.touch()
    elif chosen == "folder":
        path.mkdir()
    elif chosen == "pipe":
        os.mkfifo(path)
    elif chosen != "gone":
        links = {"secret": places.secret, "outside": places.outside, "photo": places.photo,
                 "loop": path, "zero": Path("/dev/zero"), "nowhere": Path("nowhere")}  # fmt: skip
        path.symlink_to(links[chosen])
    return f"{path.relative_to(places.sample)}: is {chosen}"


def _bytes(data: bytes, random: Random) -> tuple[bytes, str]:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + random.choice([1, 2, 4, 16, 200]))
    some = random.randbytes(random.choice([1, 2, 4, 40]))
    text = data.decode("latin-1")
    options: dict[str, Callable[[], bytes]] = {
        "truncated": lambda: data[:at],
        "bit flipped": lambda: _flipped(data, random),
        "bits flipped": lambda: _flipped(_flipped(_flipped(data, random), random), random),
        "bytes inserted": lambda: data[:at] + some + data[at:],
        "bytes removed": lambda: data[:at] + data[end:],
        "bytes replaced": lambda: data[:at] + some + data[at + len(some) :],
        "part repeated": lambda: data[:at] + data[max(0, at - 200) : at] * 3 + data[at:],
        "NUL inserted": lambda: data[:at] + b"\0" + data[at:],
        "byte order mark": lambda: b"\xef\xbb\xbf" + data,
        "UTF-16": lambda: text.encode("utf-16"),
        "UTF-32": lambda: text.encode("utf-32"),
        "Latin-1 letter": lambda: data[:at] + b"\xe9" + data[at:],
        "half a surrogate": lambda: data[:at] + b"\xed\xa0\x80" + data[at:],
        "twice": lambda: data + data,
        "noise": lambda: random.randbytes(random.choice([1, 10, 1000])),
        "line ends of Windows": lambda: data.replace(b"\n", b"\r\n"),
        "blank": lambda: b" \n\t\n",
    }
    what = random.choice(list(options))
    return options[what](), f"{what} at {at}"


def _flipped(data: bytes, random: Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _spots(tree: Any, where: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every place in a tree of dicts and lists: container, key and where it is."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree))
    for key in list(keys):
        yield tree, key, f"{where}.{key}"
        if isinstance(tree[key], (dict, list)):
            yield from _spots(tree[key], f"{where}.{key}")


def change_tree(  # noqa: PLR0911  # one return a change
    tree: Any, random: Random, raw: Callable[[], str]
) -> tuple[str, Any, str]:
    """Change one place of a tree in place. Returns what was done, the tree, and the raw text that
    is to take the place of `_RAW` in it."""
    spots = list(_spots(tree)) if isinstance(tree, (dict, list)) else []
    if not spots or random.random() < 0.04:
        return "whole", _RAW, raw()
    if random.random() < 0.5:  # chance would else favour the longest list of numbers
        short = [spot for spot in spots if not (isinstance(spot[0], list) and len(spot[0]) > 8)]
        spots = short or spots
    container, key, where = random.choice(spots)
    kind = random.random()
    if kind < 0.62:
        value = raw()
        container[key] = _RAW
        return f"{where} = {value[:60]}", tree, value
    if kind < 0.74:
        del container[key]
        return f"{where} dropped", tree, ""
    if kind < 0.8 and isinstance(container, dict):
        container[_RAW] = container.pop(key)
        return f"{where} renamed", tree, json.dumps(str(key) + "x")
    if kind < 0.86 and isinstance(container, dict):
        value = raw()
        container[f"{_RAW}KEY"] = _RAW
        return f"{where} twice: {key}\0{value[:60]}", tree, f"{value}\0{key}"
    if kind < 0.9:
        container[key] = [container[key]]
        return f"{where} in a list", tree, ""
    if kind < 0.95 and isinstance(container, list):
        container.append(container[key])
        return f"{where} repeated", tree, ""
    other, its_key, its_where = random.choice(spots)
    container[key] = json.loads(json.dumps(other[its_key], default=str))
    return f"{where} = {its_where}", tree, ""


def _fill(text: str, raw: str, quote: str) -> str:
    """Raw text in the marked place of a text; after a NUL it names a key that is there already."""
    value, _, key = raw.partition("\0")
    if key or f"{_RAW}KEY" in text:
        text = text.replace(f"{quote}{_RAW}KEY{quote}", json.dumps(key), 1)
    return text.replace(f"{quote}{_RAW}{quote}", value)


def _json(text: str, random: Random, places: Places) -> tuple[str, str]:
    what, tree, raw = change_tree(json.loads(text), random, lambda: json_value(random, places))
    return _fill(json.dumps(tree), raw, '"'), what


def _lines_of_json(text: str, random: Random, places: Places) -> tuple[str, str]:
    lines = text.splitlines()
    at = random.choice([n for n, line in enumerate(lines) if "{" in line] or [0])
    start = lines[at].index("{") if lines and "{" in lines[at] else 0
    if not lines or "{" not in lines[at]:
        return "{}", "one row"
    changed, what = _json(lines[at][start:], random, places)
    lines[at] = lines[at][:start] + changed
    return "".join(f"{line}\n" for line in lines), f"line {at + 1}{what}"


def _yaml(text: str, random: Random, places: Places) -> tuple[str, str]:
    if random.random() < 0.1:
        extra = yaml_value(random, places)
        added = random.choice([f"download: {extra}", f"? {extra}\n: 1", f"%YAML 9\n---\n{extra}"])
        return f"{text}\n{added}\n", f"added {added[:60]}"
    what, tree, raw = change_tree(yaml.safe_load(text), random, lambda: yaml_value(random, places))
    return _fill(yaml.safe_dump(tree, sort_keys=False, width=10**6), raw, ""), what


def _rows(text: str, random: Random, places: Places) -> tuple[str, str]:
    lines = text.splitlines() or [""]
    at = random.randrange(len(lines))
    separator = next((mark for mark in ":," if mark in lines[at]), " ")
    cells = lines[at].split(separator)
    column = random.randrange(len(cells))
    value = plain_text(random, places)
    kind = random.random()
    if kind < 0.7:
        cells[column] = value
        what = f"row {at + 1} cell {column + 1} = {value[:60]}"
    elif kind < 0.8:
        del cells[column]
        what = f"row {at + 1} cell {column + 1} dropped"
    elif kind < 0.9:
        cells += cells * random.choice([1, 3, 5000])
        what = f"row {at + 1} repeated"
    else:
        cells = [value]
        what = f"row {at + 1} = {value[:60]}"
    lines[at] = separator.join(cells)
    return "".join(f"{line}\n" for line in lines), what


def _xml(text: str, random: Random, places: Places) -> tuple[str, str]:
    if random.random() < 0.2:
        return _xml_frame(text, random, places)
    root = ElementTree.fromstring(text)
    parents = {child: parent for parent in root.iter() for child in parent}
    node = random.choice(list(root.iter()))
    value = plain_text(random, places)
    kind = random.random()
    if node.attrib and kind < 0.6:
        key = random.choice(list(node.attrib))
        if kind < 0.5:
            node.set(key, value)
            what = f"<{node.tag} {key}> = {value[:60]}"
        else:
            del node.attrib[key]
            what = f"<{node.tag} {key}> dropped"
    elif kind < 0.75:
        node.text, what = value, f"<{node.tag}> text = {value[:60]}"
    elif kind < 0.82 or node not in parents:
        node.tag, what = f"{node.tag}x", f"<{node.tag}> renamed"
    elif kind < 0.9:
        parents[node].remove(node)
        what = f"<{node.tag}> dropped"
    else:
        target = random.choice([*parents.values()])
        target.append(ElementTree.fromstring(ElementTree.tostring(node, encoding="unicode")))
        what = f"<{node.tag}> copied below <{target.tag}>"
    return ElementTree.tostring(root, encoding="unicode"), what


def _xml_frame(text: str, random: Random, places: Places) -> tuple[str, str]:
    """Faults around the content: encodings, entities, roots, nesting."""
    body = text[text.index("<", text.index("?>") if text.startswith("<?") else 0) :]
    inner = body.index(">") + 1
    many = " ".join(f"a{number}=''" for number in range(9999))
    system = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{places.secret}">]>'
    options = {
        "encoding": f'<?xml version="1.0" encoding="{random.choice(_ENCODINGS)}"?>\n{body}',
        "bomb": f"{entity_bomb()}{body[:inner]}&e;{body[inner:]}",
        "foreign entity": f"{system}{body[:inner]}&e;{body[inner:]}",
        "foreign DTD": f'<!DOCTYPE a SYSTEM "file://{places.secret}">{body}',
        "unknown entity": f"{body[:inner]}&nothing;{body[inner:]}",
        "forbidden letter": f"{body[:inner]}&#0;{body[inner:]}",
        "surrogate": f"{body[:inner]}&#xD800;{body[inner:]}",
        "root": "<html><body/></html>",
        "nested": body[:inner] + "<a>" * DEEP + "</a>" * DEEP + body[inner:],
        "nested images": body[:inner] + "<image>" * DEEP + "</image>" * DEEP + body[inner:],
        "name space": body.replace(">", ' xmlns="urn:x">', 1),
        "version": f'<?xml version="9.9"?>{body}',
        "attributes": f"{body[:inner]}<image {many}/>{body[inner:]}",
        "two roots": body + body,
    }
    what = random.choice(list(options))
    return options[what], what


_ENCODINGS = ("utf-7", "x-unknown", "idna", "base64", "zlib", "rot13", "utf-16", "ascii", "a" * 300,
              "latin-1", "cp037", "undefined", "unicode_escape", "hex")  # fmt: skip


def copy_sample(template: Path, target: Path, large: int = 1 << 16) -> None:
    """Copy a folder with its times of change; files of `large` bytes and more are linked."""

    def place(source: str, copy: str) -> None:
        file = Path(source)
        if file.is_fifo():
            os.mkfifo(copy)
        elif file.stat().st_size >= large:
            Path(copy).hardlink_to(file)
        else:
            shutil.copy2(source, copy)

    shutil.copytree(template, target, symlinks=True, copy_function=place)
