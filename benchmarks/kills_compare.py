"""What an output holds, for comparing it with another run's: see kills.py for what is left out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

Content = dict[str, str]


def content(folder: Path) -> Content:
    """Every file below a folder with a hash of what is compared of it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = digest(path)
    return found


def digest(path: Path) -> str:
    data = path.read_bytes()
    if path.name == "run.json":
        data = json.dumps(without_seconds(json.loads(data)), sort_keys=True).encode()
    elif path.name == "manifest.jsonl":
        return "\n".join(sorted(data.decode().splitlines()))
    return hashlib.sha256(data).hexdigest()


def without_seconds(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if not str(k).endswith("seconds")}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def without(found: Content, unsteady: frozenset[str]) -> Content:
    """What is compared: without the unsteady files, and their lines in a manifest."""
    kept = {}
    for path, text in found.items():
        if Path(path).name == "manifest.jsonl":
            rows = [json.loads(line) for line in text.splitlines()]
            base = Path(path).parent
            steady = [
                row for row in rows
                if (base / row["path"]).as_posix() not in unsteady
                and Path(row["path"]).name != "run.json"
            ]  # fmt: skip
            kept[path] = json.dumps(steady, sort_keys=True)
        elif path not in unsteady:
            kept[path] = text
    return kept
