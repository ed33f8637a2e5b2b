"""Errors planted into labels: how many are among the first images that an audit shows?

python benchmarks/audit.py DATA [--share 0.05] [--share 0.1] [--seeds 1] [SET ...]

DATA holds sets in MVTec's layout, such as magnetic_tile; images of one tile have numbers less than
60 apart, files of one zipper have one photo. A share of the labels gets an error, each kind equally
often: removed, added on nothing, another category, shifted, loosened. Beside the audit: images at
random (the expected number), and cleanlab's scores of images for object detection and for
segmentation, on the same predictions. The first 100 images are looked at, or the first tenth.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Faults
from pipeline.formats.datasets import read_datasets
from pipeline.formats.mvtec import with_instances
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import encode_patches, to_patch
from pipeline.geometry.patches import components
from pipeline.metrics.label_errors.evidence import image_evidence, usual_least_area
from pipeline.metrics.label_errors.planted import (
    loosened,
    on_nothing,
    other_category,
    shifted,
)
from pipeline.metrics.label_errors.ranking import Suspect, suspects
from pipeline.models.features.backbones import pretrained_weights
from pipeline.models.segmentation.cross_validation import OutOfFold
from pipeline.models.segmentation.hypercolumns import BACKBONE
from pipeline.runtime.progress import set_quiet
from pipeline.splits import folds
from pipeline.types import Dataset, Detections, ImageRecord

KINDS = ("removed", "on nothing", "category", "shifted", "loosened")
_APART = 60  # numbers of two exposures of one tile are nearer


@dataclass(frozen=True)
class Scores:
    """Of each image (N,), higher is more suspicious."""

    audit: NDArray[np.float64]
    boxes: NDArray[np.float64]
    pixels: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="*", default=["magnetic_tile", "zipper_512"])
    parser.add_argument("--share", type=float, action="append")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    set_quiet(True)
    print("| set | errors | images | looked at | random | cleanlab, boxes | cleanlab, pixels |"
          " audit | to random | s of CPU |")  # fmt: skip
    print("|" + "---|" * 10)
    for name in options.sets:
        dataset = read(options.data / name)
        for share in options.share or [0.05, 0.1]:
            for seed in range(options.seeds):
                measure(name, dataset, share, seed)


def read(folder: Path) -> Dataset:
    """A set with its instances, grouped by object, without empty masks."""
    dataset = with_instances(read_datasets([folder], Faults(keep_going=True)), Faults(True))
    numbered = sorted(
        (int(match[1]), record.id)
        for record in dataset.records
        if (match := re.search(r"num_(\d+)", record.path.name))
    )
    group_of: dict[int, str] = {}
    for place, (number, key) in enumerate(numbered):
        before = numbered[place - 1]
        is_same = place > 0 and number - before[0] < _APART
        group_of[key] = group_of[before[1]] if is_same else str(number)
    records = []
    for record in dataset.records:
        photo = re.search(r"([a-z]+_[a-z]+|[a-z]+)_(\d+)$", record.path.stem)
        group = group_of.get(record.id) or (photo[0] if photo else record.group)
        records.append(replace(record, group=group))
    kept = [one for one in records if len(dataset.on(one)) or not one.masks]
    return replace(dataset, records=tuple(kept)).subset(kept)


def measure(name: str, dataset: Dataset, share: float, seed: int) -> None:
    """One row of the table."""
    started = time.process_time()
    spoilt, bad, kinds = planted(dataset, share, seed)
    scores = scored(spoilt, seed)
    count = min(100, max(len(dataset.records) // 10, 1)) if len(dataset.records) < 300 else 100
    truth = np.array([record.id in bad for record in dataset.records])
    hits = {
        kind: int(truth[np.argsort(-values, kind="stable")[:count]].sum())
        for kind, values in vars(scores).items()
    }
    random = len(bad) * count / len(dataset.records)
    print(
        f"| {name}, {share:.0%} | {len(bad)} | {len(dataset.records)} | {count} | {random:.1f} | "
        f"{hits['boxes']} | {hits['pixels']} | {hits['audit']} | {hits['audit'] / random:.1f} | "
        f"{time.process_time() - started:.0f} |",
        flush=True,
    )
    order = np.argsort(-scores.audit, kind="stable")[:count]
    first = {dataset.records[row].id for row in order}
    by_kind = ", ".join(
        f"{kind} {sum(1 for key, own in kinds.items() if own == kind and key in first)} of "
        f"{sum(own == kind for own in kinds.values())}"
        for kind in KINDS
    )
    print(f"  found: {by_kind}", flush=True)


def planted(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, set[int], dict[int, str]]:
    """The set with errors in a share of its labels, at most one on an image; the ids of these
    images, and the kind on each."""
    generator = np.random.default_rng(seed)
    places = [(record, row) for record in dataset.records for row in range(len(dataset.on(record)))]
    objects = dict(dataset.objects)
    kinds: dict[int, str] = {}
    wanted = max(round(share * len(places)), 1)
    for place in generator.permutation(len(places)):
        record, row = places[place]
        kind = KINDS[len(kinds) % len(KINDS)]
        if record.id in kinds or len(kinds) == wanted:
            continue
        changed = _spoilt(dataset, record, row, kind, generator)
        if changed is not None:
            objects[record.id] = changed
            kinds[record.id] = kind
    records = tuple(replace(one, defect="") if one.id in kinds else one for one in dataset.records)
    return replace(dataset, records=records, objects=objects), set(kinds), kinds


def _spoilt(
    dataset: Dataset, record: ImageRecord, row: int, kind: str, generator: np.random.Generator
) -> Detections | None:
    """The objects of an image with an error of a kind; None where there can be none."""
    own = dataset.on(record)
    assert own.masks is not None
    patch, size = to_patch(own.masks[row]), record.size
    if kind == "removed":
        return own.select([other for other in range(len(own)) if other != row])
    if kind == "category":
        other = other_category(int(own.labels[row]), len(dataset.categories), generator)
        labels = own.labels.copy()
        labels[row] = own.labels[row] if other is None else other
        return None if other is None else replace(own, labels=labels)
    if kind == "on nothing":
        taken = mask_geometry.union(own.masks, *size)
        moved = on_nothing(patch, taken, generator, size)
    else:
        moved = (shifted if kind == "shifted" else loosened)(patch, size, generator)
    if moved is None:
        return None
    masks = [*own.masks]
    labels = own.labels
    rle = encode_patches([moved], *size)[0]
    if kind == "on nothing":
        masks.append(rle)
        labels = np.append(labels, labels[row])
    else:
        masks[row] = rle
    return replace(Detections.from_masks(masks, 0), labels=labels)


def scored(dataset: Dataset, seed: int) -> Scores:
    """The suspicion of each image: by the audit, and by cleanlab on the same predictions."""
    from cleanlab.object_detection.rank import get_label_quality_scores as quality_of_boxes
    from cleanlab.segmentation.rank import get_label_quality_scores as quality_of_pixels

    weights = pretrained_weights(BACKBONE, "auto")
    models = OutOfFold(dataset, weights, "cpu", Faults(), seed)
    areas = [mask_geometry.area(rle) for own in dataset.objects.values() for rle in own.masks or ()]
    least = usual_least_area(areas)
    evidence, boxes, pixels = {}, {}, {}
    fold_of = folds(dataset.records, 3, seed)
    for record, probabilities in models.predict(fold_of, lambda *judged: judged[-1]):
        own = dataset.on(record)
        evidence[record.id] = image_evidence(record, own, probabilities, least, seed)
        given = np.zeros(record.size, np.int64)
        for rle, label in zip(own.masks or (), own.labels.tolist(), strict=True):
            given[mask_geometry.decode(rle)] = 1 + label
        image_scores, _ = quality_of_pixels(
            given[None], probabilities[None].astype(np.float64), verbose=False
        )
        pixels[record.id] = 1 - float(image_scores[0])
        boxes[record.id] = (
            {"bboxes": own.boxes.astype(float), "labels": own.labels},
            predicted_boxes(probabilities),
        )
    listed = [boxes[record.id] for record in dataset.records]
    quality = quality_of_boxes([one for one, _ in listed], [two for _, two in listed],
                               verbose=False)  # fmt: skip
    return Scores(
        _by_image(dataset, suspects(dataset, evidence)),
        1 - np.asarray(quality, np.float64),
        np.array([pixels[record.id] for record in dataset.records]),
    )


def predicted_boxes(probabilities: NDArray[np.float32]) -> NDArray[np.object_]:
    """For each category (M, 5): boxes of what is predicted, with a score, as cleanlab has them."""
    defect = 1 - probabilities[0]
    rows: list[list[list[float]]] = [[] for _ in probabilities[1:]]
    for patch in components(np.ascontiguousarray(defect > 0.3)):
        x0, y0, x1, y1 = patch.box
        means = probabilities[1:, y0:y1, x0:x1][:, patch.pixels].mean(axis=1)
        rows[int(means.argmax())].append([x0, y0, x1, y1, float(means.max())])
    boxes = np.empty(len(rows), dtype=object)
    boxes[:] = [np.array(one, np.float64).reshape(-1, 5) for one in rows]
    return boxes


def _by_image(dataset: Dataset, ranked: Sequence[Suspect]) -> NDArray[np.float64]:
    """The greatest suspicion on each image."""
    highest = {record.id: 0.0 for record in dataset.records}
    for one in ranked:
        highest[one.record.id] = max(highest[one.record.id], one.suspicion)
    return np.array([highest[record.id] for record in dataset.records])


if __name__ == "__main__":
    main()
