"""How many masks `pipeline next` saves: labels of new photos after learning from images that it
chose, beside images drawn at random.

python benchmarks/next.py WORK [--rounds 4] [--images 8] [--seeds 2] [--picture PNG]

Zippers are drawn: a pool to choose from, and photos to test on. Both ways begin with the same
images, and each round adds some and learns on: `finetune-segmenter --start`, then `combine`. A
simulated person draws every mask of a chosen image. Printed: the label IoU on the test photos (a
miss counts 0) after each round with the masks so far, and the share of the masks that the chosen
images need for the label IoU of the random ones. After a stop it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.schema import (
    CombineConfig,
    ConvertConfig,
    FinetuneSegmenterConfig,
    SynthesizeConfig,
)
from pipeline.formats.coco import read_coco, write_coco
from pipeline.geometry.masks import union
from pipeline.io.images import read_image
from pipeline.metrics.label_quality import compare_labels, label_quality
from pipeline.models.segmentation.embedding import embed
from pipeline.proposals.labeller import Labeller, load_labeller
from pipeline.proposals.teaching import choose, doubt_of
from pipeline.runtime.progress import say, track
from pipeline.stages.combine import combine
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.synthesize import synthesize
from pipeline.types import Dataset, Detections, ImageRecord
from pipeline.visualization.plots import curves

CPU = torch.device("cpu")
WAYS = ("random", "next")


@dataclass(frozen=True)
class Settings:
    """images: added a round. first, more: training steps of the first round, and of the others.
    scale: by which photos are shrunk for the network."""

    rounds: int
    images: int
    first: int = 100
    more: int = 40
    scale: float = 0.5


def drawn(work: Path, name: str, per_defect: int, good: int, seed: int) -> Dataset:
    """A set of zippers with their masks."""
    data = work / name
    if not (data / "run.json").is_file():
        product = work / f"{name}_product"
        synthesize(product, SynthesizeConfig(good_train=good, good_test=0, per_defect=per_defect,
                                             seed=seed))  # fmt: skip
        convert_masks([product], data, ConvertConfig(val=0, test=0, group_by="none"))
    return read_coco(data / "annotations" / "instances_train.json", data / "images")


def learned(
    pool: Dataset, rows: Sequence[int], folder: Path, before: Path | None, settings: Settings
) -> Labeller:
    """The labeller of some images of the pool. before: of the round before, to go on from."""
    data, records = folder / "data", [pool.records[row] for row in rows]
    if not (data / "annotations" / "instances_train.json").is_file():
        for record in records:
            target = data / "images" / record.file_name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                os.link(record.path, target)
        write_coco(data / "annotations" / "instances_train.json", pool.subset(records))
    segmenter, labeller = folder / "segmenter", folder / "labeller"
    if not (segmenter / "run.json").is_file():
        config = FinetuneSegmenterConfig(
            folds=2, steps=settings.more if before else settings.first, scale=settings.scale,
            decoder_steps=None if before else 2 * settings.first,
            start=before / "segmenter" if before else None,
        )  # fmt: skip
        finetune_segmenter(data, segmenter, config, device="cpu", overwrite=True)
    if not (labeller / "run.json").is_file():
        combine(data, segmenter, labeller, CombineConfig(sam=""), device="cpu")
    return load_labeller(labeller, CPU)


def label_iou(labeller: Labeller, test: Dataset) -> float:
    """Of the labels of the test photos."""
    images = [
        compare_labels(test.on(record), labeller.detect(read_image(record.path)), test.categories,
                       record.file_name)
        for record in track(test.records, "test")
    ]  # fmt: skip
    return label_quality(images).label_iou or 0.0


def chosen(labeller: Labeller, pool: Dataset, known: Sequence[int], count: int) -> list[int]:
    """The rows of the pool that `pipeline next` takes."""
    left = [row for row in range(len(pool.records)) if row not in set(known)]
    segmenter, shares, vectors = labeller.finders.segmenter, [], []
    for row in track(left, "choose"):
        image = read_image(pool.records[row].path)
        labels, missed = labeller.label(image)
        found = segmenter.defect_map(image)
        shares.append(doubt_of(labels, missed, found).share)
        vectors.append(embed(segmenter, image, found.heatmap()))
    before = [
        embed(segmenter, read_image(pool.records[row].path), heat(pool, pool.records[row]))
        for row in known
    ]
    choice = choose(np.array(shares), np.array(vectors), np.array(before), count)
    return [left[row] for row in choice.rows]


def heat(pool: Dataset, record: ImageRecord) -> NDArray[np.float32]:
    """1 on the defects of an image."""
    objects: Detections = pool.on(record)
    return union(objects.masks or (), *record.size).astype(np.float32)


def simulated(
    way: str, seed: int, pool: Dataset, test: Dataset, work: Path, settings: Settings
) -> list[tuple[int, float]]:
    """Masks and label IoU after each round."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(pool.records)).tolist()
    rows, points = order[: settings.images], []
    before: Path | None = None
    for number in range(settings.rounds + 1):
        folder = work / (f"seed{seed}_first" if not number else f"seed{seed}_{way}_{number}")
        labeller = learned(pool, rows, folder, before, settings)
        done = folder / "done.json"
        if not done.is_file():
            done.write_text(json.dumps(label_iou(labeller, test)))
        masks = sum(len(pool.on(pool.records[row])) for row in rows)
        points.append((masks, float(json.loads(done.read_text()))))
        say(f"seed {seed}, {way}: {masks} masks, label IoU {points[-1][1]:.3f}")
        if number < settings.rounds:
            added = [row for row in order if row not in set(rows)][: settings.images]
            rows = rows + (added if way == "random" else chosen(labeller, pool, rows,
                                                                settings.images))  # fmt: skip
        before = folder
    return points


def needed(points: Sequence[tuple[int, float]], goal: float) -> float | None:
    """Masks at which a curve first reaches a label IoU, between its points; None if it never
    does."""
    for (masks, low), (more, high) in pairwise(points):
        if high >= goal:
            share = 0.0 if low >= goal else (goal - low) / (high - low)
            return masks + share * (more - masks)
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    settings = Settings(options.rounds, options.images)
    pool = drawn(options.work, "pool", per_defect=9, good=17, seed=1)
    test = drawn(options.work, "test", per_defect=5, good=5, seed=2)
    found = {
        way: [simulated(way, seed, pool, test, options.work, settings)
              for seed in range(options.seeds)]
        for way in WAYS
    }  # fmt: skip
    print("| way | seed | masks: label IoU after each round |\n|---|---|---|")
    for way, runs in found.items():
        for seed, points in enumerate(runs):
            print(f"| {way} | {seed} | {', '.join(f'{m}: {iou:.3f}' for m, iou in points)} |")
    for seed, (one, other) in enumerate(zip(found["random"], found["next"], strict=True)):
        goal = max(iou for _, iou in one)
        random, own = needed(one, goal), needed(other, goal)
        shown = f"{own / random:.0%}" if own and random else "not reached"
        print(f"seed {seed}: masks for the best label IoU of random images, {goal:.3f}: {shown}")
    if options.picture:
        names = [str(number) for number in range(options.rounds + 1)]
        panels = {f"seed {seed}": {way: [iou for _, iou in found[way][seed]] for way in WAYS}
                  for seed in range(options.seeds)}  # fmt: skip
        curves(options.picture, names, panels, "rounds", "label IoU")


if __name__ == "__main__":
    main()
