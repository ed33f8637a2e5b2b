"""What an output holds, for comparing it with another run's.

Byte by byte, but for what no two runs have in common: the seconds in run.json and results.csv, the
dates beside the numbers in a checkpoint (*.pt; all its numbers are compared), the order of the
names in a safetensors header, the times in a review, and the hashes of such files, and of times of
change, in run.json, card.json and steps.sqlite. A manifest's lines for these files are compared by
their paths.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

Content = dict[str, str]


def content(folder: Path) -> Content:
    """Every file below a folder with a hash of what is compared; manifests as text."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            if path.name == "manifest.jsonl":
                files[name] = "\n".join(sorted(data.decode().splitlines()))
            else:
                steady = _steady(name)
                files[name] = hashlib.sha256(steady(data) if steady else data).hexdigest()
    return files


def without(files: Content, unsteady: frozenset[str]) -> Content:
    """What is compared: without the unsteady files, and with no more of them in a manifest than
    their paths."""
    kept = {}
    for path, text in files.items():
        if Path(path).name == "manifest.jsonl":
            base = Path(path).parent
            rows = []
            for line in text.splitlines():
                row = json.loads(line)
                name = (base / row["path"]).as_posix()
                rows.append(row if name not in unsteady and not _steady(name) else row["path"])
            kept[path] = json.dumps(sorted(rows, key=json.dumps), sort_keys=True)
        elif path not in unsteady:
            kept[path] = text
    return kept


def _steady(name: str) -> Callable[[bytes], bytes] | None:
    """What makes of a file's bytes those that two equal runs share; None: they share all."""
    last = Path(name)
    by_name = {
        "run.json": _run_file,
        "results.csv": _curves,
        "card.json": _card,
        "steps.sqlite": _steps,
    }
    by_kind = {".pt": _checkpoint, ".safetensors": _tensors, ".review": _review}
    return by_name.get(last.name) or by_kind.get(last.suffix)


def _run_file(data: bytes) -> bytes:
    return json.dumps(_lasting(json.loads(data)), sort_keys=True).encode()


def _lasting(value: object) -> object:
    """Without seconds and the hashes of files that hold some; the manifest itself is compared."""
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if k not in ("inputs", "resume_key")}
        return {
            k: _lasting(v) for k, v in value.items() if not str(k).endswith(("seconds", "sha256"))
        }
    return [_lasting(v) for v in value] if isinstance(value, list) else value


def _curves(data: bytes) -> bytes:
    rows = list(csv.DictReader(io.StringIO(data.decode()), skipinitialspace=True))
    return json.dumps([{k: v for k, v in row.items() if k != "time"} for row in rows]).encode()


def _card(data: bytes) -> bytes:
    return json.dumps(json.loads(data) | {"sha256": ""}, sort_keys=True).encode()


def _steps(data: bytes) -> bytes:
    """The names of the finished steps; the bytes themselves where a kill left all rows in the
    write-ahead log beside them."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(data[:18] + b"\1\1" + data[20:])  # as one that is not in WAL mode
        try:
            rows = database.execute("SELECT key FROM items ORDER BY key").fetchall()
        except sqlite3.OperationalError:
            return data
    return json.dumps([row[0] for row in rows]).encode()


def _review(data: bytes) -> bytes:
    """All rows of a session but the times of its actions."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(data[:18] + b"\1\1" + data[20:])
        found = []
        for table in ("session", "images", "objects", "actions"):
            rows = database.execute(f"SELECT * FROM {table} ORDER BY 1")
            names = [column[0] for column in rows.description]
            found += [{**dict(zip(names, row, strict=True)), "time": 0} for row in rows]
    return json.dumps(found).encode()


def _checkpoint(data: bytes) -> bytes:
    """The numbers of a torch file: all of its archive but the pickled names and dates."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = sorted(name for name in archive.namelist() if "/data/" in name)
        return b"".join(hashlib.sha256(archive.read(name)).digest() for name in names)


def _tensors(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    return json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True).encode() + data[8 + size :]
