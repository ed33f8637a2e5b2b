"""COCO of a million images: written, listed, divided into shards, merged, and as Parquet.

python benchmarks/coco_scale.py --images 1000 10000 100000 1000000     seconds and peak memory
python benchmarks/coco_scale.py --images 1000000 --shards 64 --objects 3 --folder /data

The sets have names and masks, and no photos. Each step runs in a process of its own, whose greatest
resident memory is in the table. `write`, `shard`, `merge`, `tables` and `tables merged` are
streams; `list` makes the `Dataset` that commands work on, with every image and object in memory.
What is merged is compared with the first file byte by byte.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipeline.formats.coco import image_text, read_coco
from pipeline.formats.coco_rows import row_texts
from pipeline.formats.coco_stream import coco_writer
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.parquet_rows import json_rows, write_tables
from pipeline.formats.shards import merge_shards, shard_coco
from pipeline.geometry.masks import Rle, encode
from pipeline.io.read import sha256_of
from pipeline.types import Detections, ImageRecord

SIDE = 1024
CATEGORIES = ("crack", "stain")
_FILE, _MERGED = "set.json", "merged.json"


def write(folder: Path, images: int, objects: int, _: int) -> Path:
    """A COCO file of images that have 0 to 2 x `objects` objects."""
    random = np.random.default_rng(0)
    masks = _blobs(random)
    with coco_writer(folder / _FILE, CATEGORIES) as writer:
        for number in range(1, images + 1):
            name = f"line {number % 8}/2026-{number % 12 + 1:02d}/part {number:08d}.png"
            record = ImageRecord(number, folder / name, name, SIDE, SIDE, split="train")
            chosen = random.integers(0, len(masks), random.integers(0, 2 * objects + 1))
            found = Detections.from_masks([masks[place] for place in chosen], number % 2)
            writer.add_image(image_text(record))
            writer.add_rows(row_texts(record, found))
    return folder / _FILE


def listed(folder: Path, images: int, _: int, __: int) -> Path:
    """All images and objects in memory."""
    dataset = read_coco(folder / _FILE)
    assert len(dataset.records) == images
    return folder / _FILE


def shard(folder: Path, _: int, __: int, shards: int) -> Path:
    """The file divided; a link keeps the first one."""
    (folder / "parts").mkdir()
    (folder / "parts" / _FILE).hardlink_to(folder / _FILE)
    return shard_coco(folder / "parts" / _FILE, shards)


def merge(folder: Path, _: int, __: int, ___: int) -> Path:
    """The shards as one file, with the bytes of the first."""
    return _same(folder / "parts" / "set.index.json", folder)


def tables(folder: Path, _: int, __: int, ___: int) -> Path:
    """The file as Parquet."""
    raw = JsonRows(folder / _FILE, ("images", "annotations", "categories"))
    categories = list(raw.rows("categories"))
    lists = json_rows(raw, "images"), json_rows(raw, "annotations")
    return write_tables(folder, *lists, categories)[1]


def tables_merged(folder: Path, _: int, __: int, ___: int) -> Path:
    """Parquet as a COCO file, with the bytes of the first."""
    return _same(folder / "images.parquet", folder)


STEPS: Mapping[str, Callable[[Path, int, int, int], Path]] = {
    "write": write,
    "list": listed,
    "shard": shard,
    "merge": merge,
    "tables": tables,
    "tables merged": tables_merged,
}


def _same(source: Path, folder: Path) -> Path:
    merge_shards(source, folder / _MERGED)
    assert sha256_of(folder / _MERGED) == sha256_of(folder / _FILE)
    return folder / _MERGED


def _blobs(random: np.random.Generator) -> list[Rle]:
    """Discs of several sizes and places."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    masks = []
    for x, y, radius in random.uniform((50, 50, 3), (SIDE - 50, SIDE - 50, 40), (50, 3)):
        masks.append(encode((rows - y) ** 2 + (columns - x) ** 2 < radius**2))
    return masks


def run_step(name: str, folder: Path, images: int, objects: int, shards: int) -> None:
    """One step, in this process. Prints its seconds, the peak of its memory in MB, and the size of
    its files in MB."""
    start = time.perf_counter()
    path = STEPS[name](folder, images, objects, shards)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    beside = [path] if path.parent == folder else list(path.parent.iterdir())
    size = sum(each.stat().st_size for each in beside) / 2**20
    print(json.dumps([seconds, peak, size]))


def measure(images: int, objects: int, shards: int, parent: Path | None) -> None:
    """Print a row for each step of a set of this size."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        for name in STEPS:
            numbers = map(str, (images, objects, shards))
            call = [sys.executable, __file__, "--step", name, folder, *numbers]
            done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
            seconds, peak, size = json.loads(done.stdout)
            row = f"| {images:,} | {name} | {seconds:.1f} | {peak:.0f} | {size:.1f} |"
            print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--objects", type=int, default=1, help="of an image, on average")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where the sets are written")
    parser.add_argument("--step", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        name, folder, *numbers = given.step
        run_step(name, Path(folder), *map(int, numbers))
        return
    print("| images | step | seconds | peak memory, MB | file, MB |\n|---|---|---|---|---|")
    for images in given.images:
        measure(images, given.objects, given.shards, given.folder)


if __name__ == "__main__":
    main()
