"""convert-masks over a large set: memory as the set grows, and two processes against one.

python benchmarks/conversion_scale.py memory 2 1000 10000 100000     peak memory with two processes
python benchmarks/conversion_scale.py speed 2000                     one process and two, in turn

Masks are 1024x1024; beyond 400 they are hard links to the first ones. All that the command does is
in the figures: listing, splitting, converting, writing four formats, reading them back, the report.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drawn_masks import write_product

_RUN = """
import json, resource, sys, time
from pathlib import Path
from pipeline.config import ConvertConfig
from pipeline.progress import set_quiet
from pipeline.stages.convert_masks import convert_masks
if __name__ == "__main__":
    set_quiet(True)
    start = time.perf_counter()
    convert_masks([Path(sys.argv[1])], Path(sys.argv[2]), ConvertConfig(), workers=int(sys.argv[3]))
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in
             (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "main": peaks[0], "worker": peaks[1]}))
"""


def convert(folder: Path, product: Path, workers: int) -> dict[str, float]:
    """Run the conversion in a process of its own. Returns seconds, and peak memory in MB of the
    main process and of the largest worker."""
    script = folder / "convert.py"
    script.write_text(_RUN)
    call = [sys.executable, str(script), str(product), str(folder / "out"), str(workers)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def memory(workers: int, counts: list[int]) -> None:
    """Print peak memory for each size of set."""
    print("| masks | processes | main process, MB | each worker, MB | masks a second |")
    print("|---|---|---|---|---|")
    for count in counts:
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                found = convert(folder, write_product(folder / "blobs", count), workers)
            worker = f"{found['worker']:.0f}" if workers > 1 else "-"
            rate = count / found["seconds"]
            print(
                f"| {count} | {workers} | {found['main']:.0f} | {worker} | {rate:.0f} |", flush=True
            )


def speed(count: int, rounds: int = 3) -> None:
    """Print the medians of one process and of two, in turn, and their ratio."""
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        product = write_product(Path(name) / "blobs", count)
        for _ in range(rounds):
            for workers, found in times.items():
                start = time.perf_counter()
                convert(Path(name), product, workers)
                found.append(time.perf_counter() - start)
    one, two = (statistics.median(found) for found in times.values())
    print(f"{count} masks: one process {one:.1f} s, two {two:.1f} s, ratio {one / two:.2f}")


if __name__ == "__main__":
    if sys.argv[1] == "memory":
        memory(int(sys.argv[2]), [int(count) for count in sys.argv[3:]])
    else:
        speed(int(sys.argv[2]))
