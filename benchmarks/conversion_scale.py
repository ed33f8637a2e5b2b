"""convert-masks over a large set: memory as the set grows, and two processes against one.

python benchmarks/conversion_scale.py memory 2 1000 10000 100000     peak memory with two processes
python benchmarks/conversion_scale.py speed 2000                     1 process and 2, interleaved
python benchmarks/conversion_scale.py runners 2000                   two processes, here and by Ray

Masks are 1024x1024; beyond 400 they are hard links to the first ones. All that the command does is
in the figures: listing, splitting, converting, writing four formats, reading them back, the report.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from drawn_masks import write_product

_RUN = """
import sys, time
from pathlib import Path
from pipeline.config.schema import ConvertConfig
from pipeline.runtime.progress import set_quiet
from pipeline.stages.convert_masks import convert_masks
if __name__ == "__main__":
    set_quiet(True)
    start = time.perf_counter()
    convert_masks([Path(sys.argv[1])], Path(sys.argv[2]), ConvertConfig(),
                  runner=sys.argv[4], workers=int(sys.argv[3]))
    print(time.perf_counter() - start)
"""


def convert(
    folder: Path, product: Path, workers: int, runner: str = "local"
) -> tuple[float, float]:
    """Run the conversion in a process of its own. Returns its seconds, and the greatest sum in MB
    of the memory of its processes at one time, read five times a second."""
    script = folder / "convert.py"
    script.write_text(_RUN)
    call = [sys.executable, str(script), str(product), str(folder / "out"), str(workers), runner]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory_bytes(process.pid))
        time.sleep(0.2)
    return float(process.communicate()[0]), peak / 2**20


def _memory_bytes(process: int) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):  # it may end at any time
        parent = psutil.Process(process)
        for member in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += member.memory_full_info().pss  # what processes share counts once
    return total


def memory(workers: int, counts: list[int]) -> None:
    """Print peak memory of all processes together for each size of set."""
    print("| masks | processes | peak memory in all, MB | masks a second |\n|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            seconds, peak = convert(folder, write_product(folder / "blobs", count), workers)
        print(f"| {count} | {workers} | {peak:.0f} | {count / seconds:.0f} |", flush=True)


def compare(count: int, ways: list[tuple[int, str]], rounds: int = 3) -> None:
    """Print the medians of two ways (processes, runner), run alternately, and their ratio."""
    times: dict[tuple[int, str], list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        product = write_product(Path(name) / "blobs", count)
        for _ in range(rounds):
            for way, seconds_of_way in times.items():
                start = time.perf_counter()
                convert(Path(name), product, *way)
                seconds_of_way.append(time.perf_counter() - start)
    medians = [statistics.median(seconds_of_way) for seconds_of_way in times.values()]
    for (workers, runner), seconds in zip(ways, medians, strict=True):
        print(f"{count} masks, {workers} processes, {runner}: {seconds:.1f} s")
    print(f"ratio {medians[0] / medians[1]:.2f}")


if __name__ == "__main__":
    counts = [int(count) for count in sys.argv[2:]]
    if sys.argv[1] == "memory":
        memory(counts[0], counts[1:])
    elif sys.argv[1] == "speed":
        compare(counts[0], [(1, "local"), (2, "local")])
    else:
        compare(counts[0], [(2, "local"), (2, "ray")])
