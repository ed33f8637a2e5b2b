"""Which figures of two runs differ.

python examples/compare_two_runs.py runs/a/evaluation_truth_boxes runs/b/evaluation_truth_boxes
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue


def figures(value: JsonValue, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a JSON value with its path, such as `mask_iou_by_size.small.mean`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from figures(inner, f"{name}.{key}".lstrip("."))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, float(value)


def main(first: Path, second: Path) -> None:
    """Print each figure that both runs have and that differs, with both values."""
    runs = [json.loads((folder / "run.json").read_text()) for folder in (first, second)]
    before, after = (dict(figures(run["summary"])) for run in runs)
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            print(f"{name:40} {before[name]:10.4g} {after[name]:10.4g}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
