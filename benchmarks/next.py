"""How many masks `pipeline next` saves: labels of new photos after learning from images that it
chose, beside images drawn at random.

python benchmarks/next.py WORK [--rounds 6] [--images 6] [--seeds 5] [--picture PNG]

Zippers are drawn: a pool to choose from, and photos to test on. Both ways begin with the same
random images, and each round adds some; a simulated person draws every mask of them. What learns is
the pixel probe of `audit`, from the beginning each round: it takes seconds, so that many rounds fit
into minutes. Doubt and choice are those of `pipeline next`, with the embedding of the same layer of
the backbone. Printed: the label IoU on the test photos (a miss counts 0) after each round with the
masks so far, as means over the seeds; and which share of the masks the chosen images need for three
label IoUs that random ones reach.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.schema import ConvertConfig, SynthesizeConfig
from pipeline.formats.coco import read_coco
from pipeline.geometry.masks import area, union
from pipeline.io.images import read_image
from pipeline.metrics.label_quality import compare_labels, label_quality
from pipeline.models.features.backbones import pretrained_weights
from pipeline.models.segmentation.defect_map import (
    FULL,
    DefectMap,
    RegionOptions,
    as_detections,
    regions,
)
from pipeline.models.segmentation.hypercolumns import BACKBONE, Hypercolumns
from pipeline.models.segmentation.pixel_probe import PixelProbe, draw_sample, fit_probe
from pipeline.models.weights.store import Weights
from pipeline.proposals.region_choice import smallest_region
from pipeline.proposals.teaching import choose, doubt_of
from pipeline.runtime.progress import say, track
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.synthesize import synthesize
from pipeline.types import Dataset, Image, ImageRecord
from pipeline.visualization.plots import curves

WAYS = ("random", "next")
_STRIDE_16 = slice(72, 168)  # features of the layer that `embed` takes
Points = list[tuple[float, float]]


class KeptColumns(Hypercolumns):
    """Hypercolumns that are computed once for an image."""

    def __init__(self, weights: Weights | None) -> None:
        super().__init__(weights, torch.device("cpu"))
        self._kept: dict[int, torch.Tensor] = {}

    def of(self, image: Image) -> torch.Tensor:
        key = zlib.crc32(np.ascontiguousarray(image).data)
        if key not in self._kept:
            self._kept[key] = super().of(image).half()
        return self._kept[key].float()


class Photos:
    """A set whose photos stay in memory."""

    def __init__(self, data: Dataset, columns: KeptColumns) -> None:
        self.data, self.columns = data, columns
        self.images = [read_image(one.path) for one in track(data.records, "read photos")]
        self.masks = [len(data.on(one)) for one in data.records]

    def record(self, row: int) -> ImageRecord:
        return self.data.records[row]

    def embedding(self, row: int, heat: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `embedding.embed`, from the same layer of a backbone that is not trained."""
        places = self.columns.of(self.images[row])[..., _STRIDE_16]
        features = places[::4, ::4].reshape(-1, places.shape[2]).numpy()
        height, width = self.images[row].shape[:2]
        weights = heat.reshape(height // 16, 16, width // 16, 16).mean(axis=(1, 3)).ravel() + 1e-6
        halves = features.mean(axis=0), (weights / weights.sum()) @ features
        return np.concatenate([half / np.linalg.norm(half) for half in halves]).astype(np.float32)

    def heat(self, row: int) -> NDArray[np.float32]:
        """1 on the defects of a photo."""
        own = self.data.on(self.record(row)).masks or ()
        return union(own, *self.record(row).size).astype(np.float32)


def drawn(work: Path, name: str, per_defect: int, good: int, seed: int) -> Dataset:
    """A set of zippers with their masks."""
    data = work / name
    if not (data / "run.json").is_file():
        config = SynthesizeConfig(good_train=good, good_test=0, per_defect=per_defect, seed=seed)
        synthesize(work / f"{name}_product", config)
        convert = ConvertConfig(val=0, test=0, group_by="none")
        convert_masks([work / f"{name}_product"], data, convert)
    return read_coco(data / "annotations" / "instances_train.json", data / "images")


def map_of(probe: PixelProbe, image: Image, columns: Hypercolumns) -> DefectMap:
    shares = probe.predict(image, columns)
    defect = np.rint((1 - shares[0]) * FULL).astype(np.uint8)
    return DefectMap(defect, shares[1:].argmax(axis=0).astype(np.uint8), len(shares) - 1)


def learned(pool: Photos, rows: Sequence[int], seed: int) -> tuple[PixelProbe, RegionOptions]:
    """The probe of some photos, and what counts as one label."""
    samples = [
        draw_sample(pool.columns.of(pool.images[row]), pool.data.on(pool.record(row)),
                    pool.record(row).size, len(pool.data.categories), row)
        for row in rows
    ]  # fmt: skip
    areas = [area(rle) for row in rows for rle in pool.data.on(pool.record(row)).masks or ()]
    return fit_probe(samples, seed), RegionOptions(0.5, 4, smallest_region(areas))


def label_iou(probe: PixelProbe, options: RegionOptions, test: Photos) -> float:
    """Of the labels of the test photos."""
    images = []
    for row, image in enumerate(test.images):
        found = map_of(probe, image, test.columns)
        labels = as_detections(found, regions(found, options))
        truth = test.data.on(test.record(row))
        images.append(compare_labels(truth, labels, test.data.categories, str(row)))
    return label_quality(images).label_iou or 0.0


def chosen(
    probe: PixelProbe, options: RegionOptions, pool: Photos, known: Sequence[int], count: int
) -> list[int]:  # fmt: skip
    """The rows of the pool that `pipeline next` takes."""
    left = [row for row in range(len(pool.images)) if row not in set(known)]
    worths, vectors = [], []
    for row in left:
        found = map_of(probe, pool.images[row], pool.columns)
        labels = as_detections(found, regions(found, options))
        worths.append(doubt_of(labels, None, found).worth)
        vectors.append(pool.embedding(row, found.heatmap()))
    before = np.array([pool.embedding(row, pool.heat(row)) for row in known])
    return [left[at] for at in choose(np.array(worths), np.array(vectors), before, count).rows]


def simulated(
    way: str, seed: int, pool: Photos, test: Photos, options: argparse.Namespace
) -> Points:
    """Masks and label IoU after each round."""
    order = np.random.default_rng(seed).permutation(len(pool.images)).tolist()
    rows, points = order[: options.images], []
    for number in range(options.rounds + 1):
        probe, limits = learned(pool, rows, seed)
        points.append((sum(pool.masks[row] for row in rows), label_iou(probe, limits, test)))
        if number == options.rounds:
            break
        if way == "random":
            rows = order[: options.images * (number + 2)]
        else:
            rows = rows + chosen(probe, limits, pool, rows, options.images)
    say(f"seed {seed}, {way}: {', '.join(f'{m}: {iou:.3f}' for m, iou in points)}")
    return points


def needed(points: Points, goal: float) -> float | None:
    """Masks at which a curve first reaches a label IoU, between its points; None if it never
    does."""
    if points[0][1] >= goal:
        return float(points[0][0])
    for (masks, low), (more, high) in pairwise(points):
        if high >= goal:
            return masks + (goal - low) / (high - low) * (more - masks)
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    columns = KeptColumns(pretrained_weights(BACKBONE, "auto"))
    pool = Photos(drawn(options.work, "pool", 9, 17, seed=1), columns)
    test = Photos(drawn(options.work, "test", 5, 5, seed=2), columns)
    seeds = range(options.seeds)
    found = {way: [simulated(way, seed, pool, test, options) for seed in seeds] for way in WAYS}
    for way, runs in found.items():
        means = np.array(runs).mean(axis=0)
        shown = ", ".join(f"{masks:.0f}: {iou:.3f}" for masks, iou in means)
        print(f"{way}, masks and label IoU, mean of {len(runs)} seeds: {shown}")
    random, own = ([(float(m), float(v)) for m, v in np.array(found[way]).mean(axis=0)]
                   for way in WAYS)  # fmt: skip
    for goal in np.quantile([iou for _, iou in random], (0.5, 0.75, 1.0)).tolist():
        pair = needed(random, goal), needed(own, goal)
        share = f"{pair[1] / pair[0]:.2f}" if pair[0] and pair[1] else "not reached"
        print(f"label IoU {goal:.3f}: share of the masks of random images, by the means: {share}")
    if options.picture:
        names = [str(number) for number in range(options.rounds + 1)]
        means = {way: [float(v) for v in np.array(runs)[:, :, 1].mean(axis=0)]
                 for way, runs in found.items()}  # fmt: skip
        curves(options.picture, names, {"drawn zippers": means}, "rounds", "label IoU")


if __name__ == "__main__":
    main()
