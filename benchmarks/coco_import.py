"""`pipeline import --from coco` beside pycocotools, which loads the same file and draws its masks.

python benchmarks/coco_import.py 1000 100 3     images, polygons on each, rounds
python benchmarks/coco_import.py memory 100 200 400     peak memory of the import for so many images

Both run in processes of their own, in turns; the figure is processor time, for it depends less on
what else the machine does. The import also finds and opens the photos, checks every annotation,
writes the set, reads it back and compares each object.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipeline.io.images import write_png

SIDE, VERTICES = 256, 20
_DRAW = """
import sys
from pycocotools.coco import COCO
coco = COCO(sys.argv[1])
for row in coco.anns.values():
    coco.annToMask(row)
"""


def write_set(folder: Path, images: int, objects: int) -> Path:
    """A COCO file with round polygons, and its photos beside it. Returns the file."""
    random = np.random.default_rng(0)
    photo = random.integers(0, 4, (SIDE, SIDE, 3), dtype=np.uint8)
    angles = np.linspace(0, 2 * math.pi, VERTICES, endpoint=False)
    entries: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    for number in range(1, images + 1):
        write_png(folder / "images" / f"{number:05d}.png", np.roll(photo, number, axis=1))
        name = f"{number:05d}.png"
        entries.append({"id": number, "file_name": name, "height": SIDE, "width": SIDE})
        for x, y, radius in random.uniform((8, 8, 2), (SIDE - 8, SIDE - 8, 8), (objects, 3)):
            ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
            rows.append({
                "id": len(rows) + 1, "image_id": number, "category_id": 1 + len(rows) % 2,
                "bbox": [x - radius, y - radius, 2 * radius, 2 * radius],
                "area": math.pi * radius**2, "iscrowd": 0,
                "segmentation": [ring.round(2).ravel().tolist()],
            })  # fmt: skip
    categories = [{"id": 1, "name": "crack"}, {"id": 2, "name": "stain"}]
    path = folder / "coco.json"
    path.write_text(json.dumps({"images": entries, "categories": categories, "annotations": rows}))
    return path


def seconds(call: list[str]) -> float:
    """Processor time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(call, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def import_call(path: Path, output: Path) -> list[str]:
    """The command that imports a file."""
    options = ["--from", "coco", "--images", str(path.parent / "images"), "-o", str(output)]
    return [sys.executable, "-m", "pipeline", "import", str(path), *options, "--quiet"]


def compare(images: int, objects: int, rounds: int) -> None:
    """Print the least seconds of both, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        path = write_set(Path(name), images, objects)
        calls = {
            "pipeline import": import_call(path, Path(name) / "out"),
            "pycocotools": [sys.executable, "-c", _DRAW, str(path)],
        }
        times: dict[str, list[float]] = {way: [] for way in calls}
        for _ in range(rounds):
            for way, call in calls.items():
                times[way].append(seconds(call))
    least = {way: min(of_way) for way, of_way in times.items()}
    print(f"{images * objects} polygons on {images} photos of {SIDE}x{SIDE}, {rounds} rounds")
    for way, of_way in least.items():
        print(f"{way}: {of_way:.1f} s")
    print(f"ratio {least['pipeline import'] / least['pycocotools']:.2f}")


def memory(counts: list[int], objects: int = 100) -> None:
    """Print the peak memory of the import for each number of images."""
    script = (
        "import resource, runpy, sys\n"
        "try: runpy.run_module('pipeline', run_name='__main__')\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )
    print("| images | polygons | file, MB | peak memory, MB |\n|---|---|---|---|")
    for images in counts:
        with tempfile.TemporaryDirectory() as name:
            path = write_set(Path(name), images, objects)
            arguments = import_call(path, Path(name) / "out")[3:]
            call = [sys.executable, "-c", script, *arguments]
            done = subprocess.run(call, check=True, capture_output=True, text=True)
            peak = int(done.stderr.split()[-1]) / 1024
            size = path.stat().st_size / 2**20
            print(f"| {images} | {images * objects} | {size:.0f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        memory([int(count) for count in sys.argv[2:]])
    else:
        compare(*(int(count) for count in sys.argv[1:4]))
