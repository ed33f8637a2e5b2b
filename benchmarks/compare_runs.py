"""Whether two runs of one job, perhaps of two versions, have the same labels and the same figures.

    python benchmarks/compare_runs.py runs/before runs/after

COCO files, YOLO labels and PNG masks must have the same bytes. A run of 0.7 names some keys
differently (`part`, `split`, `look_agreement`); they are renamed before the comparison. Figures are
compared by value within each step, because keys may have new names: each number of the first
run.json must be in the second, equally often. Figures that the second has beyond these are
counted. Exit code 1 if anything else differs. Set OMP_NUM_THREADS alike for both runs: with another
number of threads, a trained network differs in its last bits.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LABELS = ("data/annotations/*.json", "data/labels/**/*.txt", "data/segment/**/*.txt",
          "data/masks/**/*.png", "masks_from_*/*.json", "masks_from_*/masks/**/*.png")  # fmt: skip
NOT_LABELS = {"run.json", "fidelity.json"}
SIZES = {"delta_mb", "size_kb", "seconds"}  # of files and time, not figures


def main() -> None:
    """Print what was compared and what differs."""
    before, after = Path(sys.argv[1]), Path(sys.argv[2])
    faults = [*compare_labels(before, after), *compare_figures(before, after)]
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


def compare_labels(before: Path, after: Path) -> Iterator[str]:
    """A line for each label file that differs; prints how many there are."""
    old, new = labels_of(before), labels_of(after)
    print(f"{len(old)} and {len(new)} label files")
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            yield f"{name}: only {'before' if name in old else 'after'}"
        elif with_current_keys(old[name]) != with_current_keys(new[name]):
            yield f"{name}: other bytes"


def labels_of(run: Path) -> dict[str, Path]:
    """The label files of a run by their name in it."""
    paths = {path for pattern in LABELS for path in run.glob(pattern)}
    return {p.relative_to(run).as_posix(): p for p in paths if p.name not in NOT_LABELS}


def with_current_keys(path: Path) -> bytes:
    """A file's bytes; those of a COCO file of 0.7 with its keys as 0.8 writes them."""
    data = path.read_bytes().replace(b'"look_agreement"', b'"multiview_agreement"')
    if path.suffix != ".json" or b'"part"' not in data:
        return data
    lines = [_renamed(line) if '"part"' in line else line for line in data.decode().split("\n")]
    return "\n".join(lines).encode()


def _renamed(line: str) -> str:
    """An image's line, which begins with its entry, with the keys of 0.8."""
    entry, end = json.JSONDecoder().raw_decode(line)
    renamed = {"part": "split", "split": "source_split"}
    entry = {renamed.get(key, key): value for key, value in entry.items()}
    return json.dumps(entry, sort_keys=True, ensure_ascii=False) + line[end:]


def compare_figures(before: Path, after: Path) -> Iterator[str]:
    """A line for each step whose numbers differ; prints how many numbers there are."""
    steps = sorted({path.parent.name for run in (before, after) for path in run.glob("*/run.json")})
    total = 0
    for step in steps:
        old, new = (Counter(numbers_of(run / step / "run.json")) for run in (before, after))
        total += old.total()
        if old - new:
            yield f"{step}: {_shown(old - new)} before, {_shown(new - old)} after"
        elif new - old:
            print(f"{step}: {(new - old).total()} more figures after")
    print(f"{total} figures of {len(steps)} steps")


def _shown(numbers: Counter[float]) -> str:
    return ", ".join(f"{number:g}" for number in sorted(numbers.elements())[:12]) or "none"


def numbers_of(path: Path) -> list[float]:
    """Every number of a step's summary, those in texts such as "3 of 7" too."""
    if not path.is_file():
        return []
    return list(numbers_in(json.loads(path.read_text(encoding="utf-8"))["summary"]))


def numbers_in(value: Any) -> Iterator[float]:
    """The numbers in a JSON value, in no order."""
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        yield float(value)
    elif isinstance(value, str) and re.fullmatch(r"\d+ of \d+", value):
        yield from map(float, value.split(" of "))
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in SIZES:
                yield from numbers_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers_in(inner)


if __name__ == "__main__":
    main()
