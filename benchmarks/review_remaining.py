"""What a review says of the labels that are left: does its lower bound hold?

python benchmarks/review_remaining.py PREDICTIONS TRUTH [--repeats 400]

PREDICTIONS: COCO with masks and an expected IoU, or else a score, as `segment` writes it. TRUTH:
COCO with the true masks of the same boxes, by `prompt_id`. Sets of the same size are drawn with
replacement, and reviewed with the least trusted first: a label is right whose IoU is 0.8 or better.
At each share that is reviewed: how often the bound is at most the true share of right labels among
those left, the median bound, and the median true share.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.coco import read_coco
from pipeline.geometry.masks import Rle, paired_iou
from pipeline.review.remaining import RIGHT_IOU, bound

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)


def trust_and_right(
    predictions: Path, truth: Path
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The trust of each label, and whether it is right."""
    found, known = read_coco(predictions), read_coco(truth)
    masks: dict[int, Rle] = {}
    for record in known.records:
        objects = known.on(record)
        if objects.ids is not None and objects.masks is not None:
            masks |= dict(zip(objects.ids.tolist(), objects.masks, strict=True))
    trust, right = [], []
    for record in found.records:
        objects = found.on(record)
        if objects.masks is None or objects.prompt_ids is None or objects.confidence is None:
            continue
        each = zip(objects.prompt_ids.tolist(), objects.masks, objects.confidence, strict=True)
        for prompt, rle, confidence in each:
            trust.append(float(confidence))
            right.append(paired_iou(rle, masks[prompt]) >= RIGHT_IOU)
    return np.array(trust), np.array(right, bool)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("predictions", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--repeats", type=int, default=400)
    options = parser.parse_args()
    trust, right = trust_and_right(options.predictions, options.truth)
    generator = np.random.default_rng(0)
    print(f"{len(trust)} labels, {right.mean():.0%} right")
    print("| reviewed | bound holds | median bound | median share of right labels left |")
    print("|---|---|---|---|")
    for share in SHARES:
        rows = []
        for _ in range(options.repeats):
            drawn = generator.integers(0, len(trust), len(trust))
            order = drawn[np.argsort(trust[drawn], kind="stable")]
            cut = max(1, round(share * len(order)))
            lower = bound(trust[order[cut:]], trust[order[:cut]], right[order[:cut]]).lower or 0.0
            rows.append((lower, float(right[order[cut:]].mean())))
        bounds, shares = np.array(rows).T
        print(f"| {share:.0%} | {(bounds <= shares).mean():.1%} | {np.median(bounds):.2f} | "
              f"{np.median(shares):.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
