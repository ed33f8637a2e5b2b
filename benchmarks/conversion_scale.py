"""convert-masks over a large set: memory as the set grows, and two processes against one.

python benchmarks/conversion_scale.py memory 2 1000 10000 100000     peak memory with two processes
python benchmarks/conversion_scale.py speed 2000                     one process and two, in turn
python benchmarks/conversion_scale.py engines 2000                   two processes, here and by Ray

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
    convert_masks([Path(sys.argv[1])], Path(sys.argv[2]), ConvertConfig(),
                  engine=sys.argv[4], workers=int(sys.argv[3]))
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in
             (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "main": peaks[0], "worker": peaks[1]}))
"""


def convert(folder: Path, product: Path, workers: int, engine: str = "local") -> dict[str, float]:
    """Run the conversion in a process of its own. Returns seconds, and peak memory in MB of the
    main process and of the largest worker."""
    script = folder / "convert.py"
    script.write_text(_RUN)
    call = [sys.executable, str(script), str(product), str(folder / "out"), str(workers), engine]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def memory(workers: int, counts: list[int]) -> None:
    """Print peak memory for each size of set."""
    print("| masks | processes | main process, MB | each worker, MB | masks a second |")
    print("|---|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            found = convert(folder, write_product(folder / "blobs", count), workers)
        worker = f"{found['worker']:.0f}" if workers > 1 else "-"
        rate = count / found["seconds"]
        print(f"| {count} | {workers} | {found['main']:.0f} | {worker} | {rate:.0f} |", flush=True)


def compare(count: int, ways: list[tuple[int, str]], rounds: int = 3) -> None:
    """Print the medians of two ways (processes, engine), run in turn, and their ratio."""
    times: dict[tuple[int, str], list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as name:
        product = write_product(Path(name) / "blobs", count)
        for _ in range(rounds):
            for way, found in times.items():
                start = time.perf_counter()
                convert(Path(name), product, *way)
                found.append(time.perf_counter() - start)
    medians = [statistics.median(found) for found in times.values()]
    for (workers, engine), seconds in zip(ways, medians, strict=True):
        print(f"{count} masks, {workers} processes, {engine}: {seconds:.1f} s")
    print(f"ratio {medians[0] / medians[1]:.2f}")


if __name__ == "__main__":
    counts = [int(count) for count in sys.argv[2:]]
    if sys.argv[1] == "memory":
        memory(counts[0], counts[1:])
    elif sys.argv[1] == "speed":
        compare(counts[0], [(1, "local"), (2, "local")])
    else:
        compare(counts[0], [(2, "local"), (2, "ray")])
