"""Sends signals to every long verb at points spread over its run, calls it again, and checks that
nothing is lost, left behind or different.

python benchmarks/kills.py [--verbs convert-masks,segment] [--points 20] [--signals TERM,KILL]
                           [--turns]    each point gets one of the signals, not all of them

Checked: the exit code; one line on stderr and no traceback; no process left; an old output is there
until the new one takes its place; after the second call no litter, and every byte as in a run that
nobody disturbed. What is not compared: see kills_compare.py, and files that differ between two
undisturbed runs, which are named below each table. Exits with 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kills_compare import Content, content, without
from kills_learn import RUN, STEPS, draw_photos, review
from kills_process import (
    Ended,
    Process,
    environment,
    killed,
    wait_for_handlers,
    wait_for_record,
)
from kills_verbs import IN_PLACE, KEEPS_OLD, STUDY, VERBS

STOPPED = "pipeline: stopped; call the same command again to go on"
LITTER = (".part", ".old", ".unfinished", ".lock", ".work")
LAST = 0.2  # share of the points that lie after run.json is there: the output takes its place
TOO_LONG = 10.0  # seconds from a signal to the end


@dataclass
class Verb:
    """One command, its undisturbed outcome, and the outcome of a call with other settings."""

    name: str
    home: Path  # of all trials; `run` in it is what a command of IN_PLACE adds to
    wanted: Content = field(default_factory=dict)
    unsteady: frozenset[str] = frozenset()
    old: Path | None = None
    seconds: float = 0.0

    def command(self, output: Path, *more: str) -> list[str]:
        words = [*VERBS[self.name], *more]
        words = [str(output), *words] if self.name in IN_PLACE else [*words, "-o", str(output)]
        return [sys.executable, "-m", "pipeline", self.name, *words]

    def place(self) -> Path:
        """The output of a call: always the same path, because outputs hold it."""
        folder = self.home / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.home / "cache", ignore_errors=True)
        folder.mkdir()
        if self.name in IN_PLACE:
            shutil.copytree(self.home / RUN, folder / "out")
        return folder / "out"

    def keeps(self, before: Content, now: Content) -> bool:
        """Whether what was there before a call that did not end is there."""
        if self.name in IN_PLACE:
            return all(now.get(path) == text for path, text in before.items())
        return not before or now == before


def main() -> None:
    arguments = parsed()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children must not inherit it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    home = Path(tempfile.mkdtemp(prefix="kills-", dir=arguments.folder))
    failures = 0
    try:
        prepare(home, arguments.verbs)
        for name in arguments.verbs:
            failures += table(name, home, arguments.points, shared_out(arguments))
    finally:
        shutil.rmtree(home)
    print(f"{failures} failures" if failures else "all held")
    sys.exit(1 if failures else 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    words: Callable[[str], list[str]] = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--verbs", type=words, default=list(VERBS))
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--signals", type=words, default=["INT", "TERM", "HUP", "KILL"])
    parser.add_argument("--turns", action="store_true", help="one signal a point, for slow verbs")
    parser.add_argument("--folder", type=Path, help="where to work, for want of space in /tmp")
    return parser.parse_args()


def shared_out(arguments: argparse.Namespace) -> dict[str, list[int]]:
    """The points at which each signal is sent."""
    points, signals = range(arguments.points), arguments.signals
    if not arguments.turns:
        return {kind: list(points) for kind in signals}
    count = len(signals)  # shifted by one each round, so that odd and even points get every signal
    return {
        kind: [point for point in points if (point + point // count) % count == index]
        for index, kind in enumerate(signals)
    }


def prepare(home: Path, verbs: Sequence[str]) -> None:
    """What the commands need: a few drawn zippers, converted, with a labeller, and the
    configuration of a study; for `learn` a run with a review."""
    steps: list[list[str]] = []
    (home / "study.yaml").write_text(STUDY)
    small = ["--per-defect", "2", "--good-train", "6", "--good-test", "2"]
    if set(verbs) - {"learn"}:
        steps += [
            ["synthesize", *small, "-o", "product"],
            ["convert-masks", "product", "-o", "data"],
            ["finetune-segmenter", *VERBS["finetune-segmenter"], "-o", "segmenter"],
            ["combine", *VERBS["combine"], "-o", "labeller"],
        ]
    if "learn" in verbs:
        draw_photos(home)
        steps += STEPS
    for words in steps:
        call([sys.executable, "-m", "pipeline", *words], home)
    if "learn" in verbs:
        review(home)


def table(name: str, home: Path, points: int, signals: dict[str, list[int]]) -> int:
    """Try one verb and print its row for each signal; returns how many trials failed."""
    verb = measured(name, home)
    print(f"\n{name}: {verb.seconds:.1f} s undisturbed, {len(verb.wanted)} files compared")
    if verb.unsteady:
        print(f"  not compared, two undisturbed runs differ: {', '.join(sorted(verb.unsteady))}")
    print("| signal | points | came in time | exit codes | slowest end | held |")
    print("|---|---|---|---|---|---|")
    failures = 0
    for kind, chosen in signals.items():
        number = signal.Signals[f"SIG{kind}"]
        found = [trial(verb, number, point, points) for point in chosen]
        bad = [
            (point, text)
            for point, (_, faults) in zip(chosen, found, strict=True)
            for text in faults
        ]
        failed = len({point for point, _ in bad})
        print(row(kind, [end for end, _ in found], len(chosen) - failed), flush=True)
        for point, text in bad:
            print(f"  {kind} at point {point}: {text}", flush=True)
        failures += failed
    return failures


def row(kind: str, ends: list[Ended], held: int) -> str:
    codes = ", ".join(sorted({str(end.code) for end in ends}))
    slowest = max((end.seconds for end in ends), default=0.0)
    in_time = sum(end.in_time for end in ends)
    return (
        f"| {kind} | {len(ends)} | {in_time} | {codes} | {slowest:.1f} s | {held} of {len(ends)} |"
    )


def measured(name: str, home: Path) -> Verb:
    """Run a verb undisturbed, twice."""
    verb = Verb(name, home)
    output = verb.place()
    began = time.perf_counter()
    call(verb.command(output), home)
    verb.seconds = time.perf_counter() - began
    first = content(output)
    output = verb.place()
    call(verb.command(output), home)
    second = content(output)
    different = {path for path in first | second if first.get(path) != second.get(path)}
    verb.unsteady = frozenset(path for path in different if Path(path).name != "manifest.jsonl")
    verb.wanted = without(first, verb.unsteady)
    if name in KEEPS_OLD:
        other = ["--seed", "9"] if name not in ("segment",) else ["--set", "review=3"]
        output = verb.place()
        call(verb.command(output, *other), home)
        verb.old = home / f"old-{name}"
        output.rename(verb.old)
    return verb


def trial(verb: Verb, number: int, point: int, points: int) -> tuple[Ended, list[str]]:
    """One signal at one point, and the second call; returns what did not hold."""
    output = verb.place()
    old = verb.old if point % 2 else None
    if old:
        shutil.copytree(old, output, copy_function=os.link)  # links: a photo has its other name
    before = content(output)
    wait = partial(wait_for_point, verb=verb, output=output, point=point, points=points)
    end = killed(verb.command(output), verb.home, number, wait)
    there = without(content(output), verb.unsteady)  # .work goes a moment after the swap
    done = {p: t for p, t in there.items() if not p.startswith(".work/")} == verb.wanted
    faults = [*after_the_signal(verb, output, number, end, before, done)]
    again = subprocess.run(
        verb.command(output), cwd=verb.home, env=environment(), capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    kept = done and "holds a finished run" in again.stderr  # finetune-yolo, which repeats nothing
    if again.returncode and not kept:
        faults.append(f"second call: exit code {again.returncode}, {again.stderr.strip()[-300:]}")
    found = without(content(output), verb.unsteady)
    different = sorted(p for p in found | verb.wanted if found.get(p) != verb.wanted.get(p))
    if different:
        faults.append(f"{len(different)} files differ: {', '.join(different[:5])}")
    left = [path.name for path in output.parent.iterdir() if path != output]
    left += [str(p.relative_to(output)) for p in output.rglob(".*") if p.name.endswith(LITTER)]
    if left:
        faults.append(f"litter after the second call: {', '.join(left)}")
    return end, faults


def after_the_signal(
    verb: Verb, output: Path, number: int, end: Ended, before: Content, done: bool
) -> Iterator[str]:
    """What does not hold between the signal and the second call. done: the output is whole."""
    allowed = {128 + number} | ({0} if done or not end.in_time else set())
    if end.code not in allowed:
        yield f"exit code {end.code}, not {sorted(allowed)}: {end.errors.strip()[-300:]}"
    if number != signal.SIGKILL and "Traceback" in end.errors:
        yield f"a traceback: {end.errors.strip()[-600:]}"
    lines = [line for line in end.errors.splitlines() if line.startswith("pipeline: ")]
    if number != signal.SIGKILL and end.code and lines != [STOPPED]:
        yield f"stderr says {lines}"
    if end.orphans:
        yield f"orphans: {end.orphans}"
    if end.seconds > TOO_LONG:
        yield f"took {end.seconds:.1f} s to end"
    if not done and not verb.keeps(before, content(output)):
        yield "the old output is not there"
    left = [path.name for path in output.parent.iterdir() if path.name.endswith(LITTER)]
    left = [name for name in left if not name.endswith(".unfinished")]
    if left and number != signal.SIGKILL:
        yield f"litter after the signal: {', '.join(left)}"


def wait_for_point(process: Process, verb: Verb, output: Path, point: int, points: int) -> None:
    """Points are spread over the run; the last few lie where the output takes its place."""
    early = points - max(round(points * LAST), 1)
    wait_for_handlers(process)
    if point < early:
        with suppress(subprocess.TimeoutExpired):
            process.wait(verb.seconds * (point + 0.5) / early)
    else:
        wait_for_record(process, output / IN_PLACE.get(verb.name, ""))
        time.sleep(0.004 * (point - early) ** 2)


def call(words: list[str], home: Path) -> None:
    done = subprocess.run(
        words, cwd=home, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")


if __name__ == "__main__":
    main()
