"""Brush strokes to Label Studio and back, for large photos: each step, and both commands.

python benchmarks/label_studio.py [SIDE [PHOTOS [MASKS]]]      2048, 6 and 40 by default

Masks are those of `drawn_masks.py`, one instance each. The commands run in processes of their own,
so their seconds hold the start of Python too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from drawn_masks import draw_mask

from pipeline.formats.coco import write_coco
from pipeline.formats.rle_pack import decode_brush_patch, encode_brush_patch
from pipeline.geometry.masks import Rle, bounding_boxes, encode_patches, to_patch
from pipeline.geometry.patches import Patch, components
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections, ImageRecord


def draw_patches(side: int, count: int, seed: int) -> list[Patch]:
    """Instances on an image of `side` pixels: some drawn, then moved to places by chance."""
    small = [p for number in range(8) for p in components(draw_mask(seed + number, 512) > 0)]
    places = np.random.default_rng(seed).integers(0, side - 512, (count, 2)).tolist()
    chosen = (small[number % len(small)] for number in range(count))
    return [patch._replace(x=x, y=y) for patch, (x, y) in zip(chosen, places, strict=True)]


def write_set(root: Path, side: int, photos: int, count: int) -> list[Rle]:
    """A COCO set; returns all its masks."""
    records, objects = [], {}
    every: list[Rle] = []
    for number in range(1, photos + 1):
        path = root / "images" / f"{number}.png"
        write_png(path, np.full((side, side), 20 * number, np.uint8))
        records.append(ImageRecord(number, path, path.name, side, side))
        masks = tuple(encode_patches(draw_patches(side, count, number), side, side))
        labels = np.zeros(count, np.int64)
        objects[number] = Detections(bounding_boxes(masks), labels, masks=masks)
        every += masks
    path = root / "annotations" / "instances.json"
    write_coco(path, Dataset(("crack",), tuple(records), objects))
    return every


def timed(what: str, work: Callable[[], object]) -> None:
    start, before = time.perf_counter(), os.times()
    work()
    seconds, after = time.perf_counter() - start, os.times()
    processor = sum(after[:4]) - sum(before[:4])  # of this process and of those it started
    print(f"{what:28} {seconds:6.2f} s, {processor:6.2f} s of a processor", flush=True)


def command(*words: object) -> None:
    call = [sys.executable, "-m", "pipeline", *map(str, words), "--quiet"]
    subprocess.run(call, check=True, cwd=Path(__file__).parent.parent)


def main(arguments: Sequence[str]) -> None:
    side, photos, count = [*map(int, arguments), *(2048, 6, 40)[len(arguments) :]]
    print(f"{photos} photos of {side}x{side}, {count} masks each")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        masks = write_set(root / "set", side, photos, count)
        codes: list[bytes] = []

        def encode() -> None:
            codes.extend(bytes(encode_brush_patch(to_patch(m), side, side)) for m in masks)

        timed("masks to brush codes", encode)
        timed("brush codes to masks", lambda: encode_patches(
            [decode_brush_patch(code, side, side) for code in codes], side, side))  # fmt: skip
        studio, back = root / "studio", root / "back"
        timed("pipeline export", lambda: command(
            "export", root / "set", "--to", "label-studio", "-o", studio))  # fmt: skip
        timed("pipeline import", lambda: command(
            "import", studio, "--from", "label-studio", "-o", back))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
