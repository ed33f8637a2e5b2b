"""Signs that an attack succeeded: changed files that must stay, and a leaked secret."""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .pixels import png_of
from .values import TOKEN, Places

_LEAKS = (TOKEN.encode(), *(base64.b64encode(b"x" * n + TOKEN.encode())[4:-4] for n in range(3)))
_NO_FILE = b"a folder or a pipe"
_RECORDS = {"run.json", "manifest.jsonl"}  # a command may replace its own


def set_up(root: Path) -> Places:
    """The canaries: a secret, a photo that holds it, files that must stay as they are."""
    places = Places(root)
    for folder in (places.outside, places.cwd, places.results):
        folder.mkdir(parents=True, exist_ok=True)
    places.secret.write_text(f"{TOKEN}\n" * 3, encoding="utf-8")
    photo = png_of(64, 48, b"\0" * (65 * 48))
    end = photo.rindex(b"\0\0\0\0IEND")
    text = b"tEXtsecret\0" + TOKEN.encode()
    length, check = len(text) - 4, zlib.crc32(text)
    chunk = length.to_bytes(4, "big") + text + check.to_bytes(4, "big")
    places.photo.write_bytes(photo[:end] + chunk + photo[end:])
    for name in ("victim.txt", "victim.png", "x.png", "instances.json"):
        (places.outside / name).write_bytes(b"must stay as it is")
    return places


@dataclass(frozen=True)
class Inventory:
    """All that lies around a command: outside its output by content, inside it the links and the
    files of an earlier run."""

    outside: Mapping[Path, bytes]
    inside: Mapping[Path, bytes]

    @classmethod
    def of(cls, places: Places) -> Inventory:
        """As it is now."""
        return cls(
            {path: _state(path) for path in _below(places.root, places.results)},
            {path: _state(path) for path in _below(places.results)},
        )

    def escape(self, places: Places) -> str:
        """The first thing that is not as it must be since this was taken; empty for none."""
        after = Inventory.of(places)
        return (
            self._changed(after, places)
            or self._leaked(after, places)
            or self._lost(after, places)
            or self._malformed(after)
        )

    def _changed(self, after: Inventory, places: Places) -> str:
        for path in sorted(self.outside.keys() | after.outside.keys()):
            fixed = path.is_relative_to(places.sample) and _is_fixed(path, after.outside)
            if path == places.marker or fixed:
                continue
            old, new = self.outside.get(path), after.outside.get(path)
            if old != new:
                how = "written" if old is None else "lost" if new is None else "changed"
                return f"{how}: {path.relative_to(places.root)}"
        return ""

    def _leaked(self, after: Inventory, places: Places) -> str:
        for path, content in after.inside.items():
            name = path.relative_to(places.results)
            if not name.parts[0].startswith(("out", ".out")):
                return f"written beside the output: {name}"
            if self.inside.get(path) == content:
                continue
            if content.startswith(b"link "):
                return f"a link in the output: {name}"
            if any(leak in content for leak in _LEAKS):
                return f"a secret in the output: {name}"
        return ""

    def _lost(self, after: Inventory, places: Places) -> str:
        """A file in a finished output that its run did not write so must be somewhere still."""
        if places.output / "run.json" not in self.inside:
            return ""
        kept = set(after.inside.values())
        for path, content in self.inside.items():
            own = path.name in _RECORDS or places.output not in path.parents
            if not own and content not in kept:
                return f"a file of the output is lost: {path.relative_to(places.results)}"
        return ""

    def _malformed(self, after: Inventory) -> str:
        """JSON that was written must be such for every reader: UTF-8, and no NaN."""
        for path, content in after.inside.items():
            if path.suffix == ".json" and content not in (self.inside.get(path), _NO_FILE):
                try:
                    json.loads(content.decode(), parse_constant=_not_finite)
                except ValueError as error:
                    return f"no JSON in the output: {path.name} ({error})"
        return ""


def _not_finite(name: str) -> None:
    raise ValueError(name)


def _below(root: Path, but: Path | None = None) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        inner = Path(folder)
        below[:] = [name for name in below if inner / name != but]
        yield from (inner / name for name in (*below, *names))


def _state(path: Path) -> bytes:
    if path.is_symlink():
        return b"link " + os.fsencode(path.readlink())
    return path.read_bytes() if path.is_file() else _NO_FILE


def _is_fixed(path: Path, after: Mapping[Path, bytes]) -> bool:
    """Whether a file is one that `validate --fix` changed, or the original that it kept."""
    is_kept = ".orig" in path.name or path.name == "rejected.json"
    return is_kept or path.with_name(f"{path.name}.orig") in after
