"""`pipeline label` on sets that grow: images a second, and peak memory, after each tenth of a set.

    python benchmarks/label_scale.py WORK --images 1000 10000 100000 [--picture FILE]

The photos have 128 pixels, and are hard links to a few drawn ones: a hundred thousand need no room
on the disk. The labels are those of a segmenter that learns from some of them first. The command
writes no overlays, keeps nothing in the cache, and works in one process. The rate of a tenth is
that of its images alone, without the start of the command. WORK keeps what was done: a call that
was stopped goes on, and a set that is finished is not labelled again.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from pipeline.io.images import write_png
from pipeline.io.work_log import LOG
from pipeline.io.write import place_file

SIDE, DISTINCT, LEARN = 128, 64, 16
TENTHS = 10
_PAUSE_S = 0.1  # between two looks at the work log
_QUICK = ("--set", "folds=2", "--set", "decoder_steps=20", "--set", "steps=20", "--set", "batch=4")


@dataclass(frozen=True)
class Tenth:
    """A part of a set. images: finished at its end. rate: images a second. peak: MB of the process,
    its greatest so far."""

    images: int
    rate: float
    peak: float


def draw(folder: Path) -> None:
    """A product of photos with bright discs and their masks, and as many photos as are linked."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    generator = np.random.default_rng(0)
    for number in range(DISTINCT):
        image = generator.normal(90, 12, (SIDE, SIDE, 3))
        mask = np.zeros((SIDE, SIDE), bool)
        for x, y, radius in generator.uniform((16, 16, 5), (112, 112, 12), (number % 3, 3)):
            mask |= (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        image[mask] += 100
        pixels = image.clip(0, 255).astype(np.uint8)
        write_png(folder / "photos" / f"{number:03d}.png", pixels)
        if number < LEARN:
            write_png(folder / "learn" / "images" / f"{number:03d}.png", pixels)
            write_png(folder / "learn" / "masks" / f"{number:03d}.png", mask.astype(np.uint8) * 255)


def learned(work: Path) -> Path:
    """The folder of the model; it is made once."""
    model = work / "segmenter"
    if not model.exists():
        draw(work)
        learn, data = work / "learn", work / "data"
        call("convert-masks", "--images", learn / "images", "--masks", learn / "masks", "-o", data,
             "--group-by", "none")  # fmt: skip
        call("finetune-segmenter", "--data", data, "-o", model, "--device", "cpu", *_QUICK)
    return model


def call(*words: str | Path) -> None:
    """The command. Raises CalledProcessError where it fails."""
    subprocess.run(command(*words), check=True, stdout=subprocess.DEVNULL)


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "pipeline", *map(str, words), "--quiet"]


def linked(work: Path, count: int) -> Path:
    """A folder of `count` photos."""
    photos = sorted((work / "photos").iterdir())
    folder = work / str(count) / "images"
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.png"
        if not path.exists():
            place_file(photos[number % len(photos)], path, copy=False)
    return folder


def measured(work: Path, model: Path, count: int) -> list[Tenth]:
    """The tenths of a set of `count` photos: those that an earlier call kept, and the others."""
    kept = work / str(count) / "tenths.json"
    tenths = [Tenth(**row) for row in json.loads(kept.read_text())] if kept.exists() else []
    if len(tenths) == TENTHS:
        return tenths
    images, output = linked(work, count), work / str(count) / "labels"
    words = ("label", "--model", model, "--images", images, "-o", output, "--device", "cpu")
    plain = ("--no-overlays", "--cache-gb", "0")  # many photos have the same pixels
    process = subprocess.Popen(command(*words, *plain), stdout=subprocess.DEVNULL)
    log = output.with_name(f".{output.name}.unfinished") / LOG
    before: tuple[int, float] | None = None  # the images of an earlier call count in no rate
    peak = 0.0
    while len(tenths) < TENTHS:
        has_ended = process.poll() is not None
        done, now = finished(log), time.perf_counter()
        if has_ended and process.returncode:
            raise SystemExit(f"label ended with exit code {process.returncode}")
        done, peak = count if has_ended else done, max(peak, peak_mb(process.pid))
        before = before or ((done, now) if done else None)
        mark = count * (len(tenths) + 1) // TENTHS
        if before and done >= mark:
            rate = (done - before[0]) / (now - before[1]) if done > before[0] else 0.0
            tenths.append(Tenth(mark, round(rate, 2), round(peak, 1)))
            kept.write_text(json.dumps([asdict(tenth) for tenth in tenths]))
            before = done, now
        time.sleep(_PAUSE_S)
    if process.wait():
        raise SystemExit(f"label ended with exit code {process.returncode}")
    return tenths


def finished(log: Path) -> int:
    """The images in a work log; 0 before there is one."""
    try:
        with closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(*) FROM items").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def peak_mb(process: int) -> float:
    """The greatest resident memory of a process so far; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def plot(path: Path, sets: dict[int, Sequence[Tenth]]) -> None:
    """Images a second and memory over the images that are finished, a line for each set."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    speed, memory = figure.subplots(1, 2)
    for count, tenths in sets.items():
        done = [tenth.images for tenth in tenths]
        speed.plot(done, [tenth.rate for tenth in tenths], "o-", label=f"{count:,} images")
        memory.plot(done, [tenth.peak for tenth in tenths], "o-", label=f"{count:,} images")
    for axes, name in ((speed, "images a second"), (memory, "peak memory, MB")):
        axes.set(xscale="log", xlabel="images finished", ylabel=name, ylim=(0, None))
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print a row for each tenth of each set, and draw them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--picture", type=Path, help="[WORK/label_scale.png]")
    given = parser.parse_args()
    work = given.work.absolute()
    os.environ["PIPELINE_CACHE"] = str(work / "cache")
    model = learned(work)
    sets: dict[int, Sequence[Tenth]] = {}
    print("| images | finished | images a second | peak memory, MB |\n|---|---|---|---|")
    for count in given.images:
        sets[count] = measured(work, model, count)
        for tenth in sets[count]:
            row = f"| {count:,} | {tenth.images:,} | {tenth.rate:.1f} | {tenth.peak:.0f} |"
            print(row, flush=True)
    plot(given.picture or work / "label_scale.png", sets)


if __name__ == "__main__":
    main()
