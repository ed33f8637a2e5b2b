"""Attack the program with changed and planted files: nothing may run, escape, crash or hang.

python benchmarks/attack.py                        both, 10,000 changed files in all
python benchmarks/attack.py mutate [KIND ...] --count N --seed S
python benchmarks/attack.py mutate KIND --only SEED --keep DIR    one again, its files left in DIR
python benchmarks/attack.py planted [GROUP or part of a name]
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_threads, "1")  # processes are forked: no threads before that

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from attacks.batches import NoSampleError, attack
from attacks.foreign import FOREIGN_KINDS
from attacks.image_folders import FOLDER_KINDS
from attacks.models import MORE_KINDS
from attacks.mutations import copy_sample
from attacks.planted import planted
from attacks.samples import LABEL_KINDS, Kind
from attacks.trial import TRACE, Outcome

KINDS: Mapping[str, Kind] = {
    **LABEL_KINDS, **FOREIGN_KINDS, **FOLDER_KINDS, **MORE_KINDS
}  # fmt: skip
_COLUMNS = ("refused", "accepted", "fault", "hang", "crash", "escape", "run")


@dataclass
class Tally:
    """The outcomes of the inputs of one kind. faults: the first input of each distinct fault."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, tuple[int, Outcome]] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, seed: int, outcome: Outcome) -> None:
        self.counts[outcome.verdict] += 1
        places = [outcome.where] if outcome.verdict in ("fault", "hang", "crash") else []
        if outcome.escape:
            self.counts["escape"] += 1
            places.append(f"ESCAPE {outcome.escape}")
        if outcome.ran:
            self.counts["run"] += 1
            places.append("RUN: planted code was executed")
        for where in places:
            self.faults.setdefault(where, (seed, outcome))
            self.times[where] += 1

    @property
    def inputs(self) -> int:
        return sum(self.counts[verdict] for verdict in _COLUMNS[:5])


def inputs_of_kinds(kinds: Mapping[str, Kind], count: int) -> dict[str, int]:
    """How many of `count` inputs each kind gets, by its weight, at least one each."""
    total = sum(kind.weight for kind in kinds.values())
    return {name: max(1, round(count * kind.weight / total)) for name, kind in kinds.items()}


def run_kinds(
    kinds: Mapping[str, Kind], count: int, seed: int, root: Path
) -> Iterator[tuple[str, Tally]]:
    """Attack each kind, one after another."""
    for name, share in inputs_of_kinds(kinds, count).items():
        tally = Tally()
        started = time.perf_counter()
        seeds = [seed * 1_000_000 + number for number in range(share)]
        try:
            for number, outcome in attack(name, kinds[name], seeds, root):
                tally.add(number, outcome)
        except NoSampleError as error:
            tally.add(seeds[0], Outcome("fault", f"no valid sample: {error}"))
        tally.seconds = time.perf_counter() - started
        yield name, tally


def scratch_root() -> Path:
    """A folder in memory where there is one: attacks write much and keep nothing."""
    shared = Path("/dev/shm")
    place = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="attack-", dir=place))


def print_table(rows: Sequence[tuple[str, Tally]]) -> None:
    """A line a kind, then a line a distinct fault."""
    print(f"{'kind':17}{'inputs':>7}" + "".join(f"{name:>9}" for name in _COLUMNS) + "   inputs/s")
    for name, tally in rows:
        cells = "".join(f"{tally.counts[column]:9}" for column in _COLUMNS)
        print(f"{name:17}{tally.inputs:7}{cells}{tally.inputs / max(tally.seconds, 1e-9):11.0f}")
    for name, tally in rows:
        for where, (seed, outcome) in sorted(tally.faults.items()):
            print(f"{tally.times[where]:5} x {where}  [mutate {shlex.quote(name)} --only {seed}]")
            print(f"        {outcome.detail[:150]!r} after {outcome.change[:110]!r}")


def main() -> int:
    """Exit code 1 if anything ran, escaped, crashed, hung or was a fault of the program."""
    parser = _parser()
    options = parser.parse_args()
    if options.mode == "mutate" and (unknown := set(options.kinds) - set(KINDS)):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    root = scratch_root()
    os.environ["PIPELINE_CACHE"], os.environ["PIPELINE_WEIGHTS"] = f"{root}/cache", f"{root}/none"
    try:
        if options.mode == "planted":
            return planted(root, " ".join(options.kinds))
        if options.only is not None:
            return _again(options.kinds[0], options.only, options.keep, root)
        kinds = {name: KINDS[name] for name in options.kinds or KINDS}
        bad = _mutated(kinds, options.count, options.seed, root)
        return max(bad, planted(root)) if options.mode == "both" else bad
    finally:
        os.chdir("/")
        shutil.rmtree(root, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", nargs="?", choices=["mutate", "planted", "both"], default="both")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    return parser


def _mutated(kinds: Mapping[str, Kind], count: int, seed: int, root: Path) -> int:
    rows = []
    for name, tally in run_kinds(kinds, count, seed, root):
        rows.append((name, tally))
        print(f"{name}: {tally.inputs}", file=sys.stderr, flush=True)
    print_table(rows)
    whole = sum((tally.counts for _, tally in rows), Counter[str]())
    inputs = sum(tally.inputs for _, tally in rows)
    bad = {name: whole[name] for name in _COLUMNS[2:]}
    print(f"{inputs} inputs: " + ", ".join(f"{number} {name}" for name, number in bad.items()))
    return int(any(bad.values()))


def _again(name: str, seed: int, keep: Path | None, root: Path) -> int:
    """One input once more, with its traceback; its files are left in `keep`."""
    os.environ[TRACE] = "1"
    keep = keep.resolve() if keep else None
    outcome = next(iter(attack(name, KINDS[name], [seed], root)))[1]
    for key, value in outcome.__dict__.items():
        print(f"{key}: {value}")
    if keep:
        copy_sample(root / "scratch", keep, large=1 << 62)  # no links: another disk
    return int(outcome.is_bad)


if __name__ == "__main__":
    sys.exit(main())
