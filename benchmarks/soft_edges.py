"""Thin defects whose masks were blurred, resized and saved as JPEG: how many are torn, and how many
are merged, by one threshold and by the rule of `without_tearing`.

python benchmarks/soft_edges.py [MASKS]

Each mask has two to six cracks of 1 to 3 pixels. Cracks are drawn apart from each other; some lie
only 6 to 12 pixels apart. The true count is that of the drawing. A true crack is torn where its
pixels hold several instances, merged where its instance holds pixels of another crack too, and lost
where no instance is on it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.hysteresis import without_tearing

THRESHOLD, SIDE = 127, 512
Values = NDArray[np.uint8]
Cut = Callable[[Values], NDArray[np.bool_]]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    drawn = [draw(seed) for seed in range(count)]
    cuts: dict[str, Cut] = {
        "threshold 127": lambda values: np.asarray(values > THRESHOLD),
        "without_tearing": lambda values: without_tearing(values, THRESHOLD).pixels,
    }
    print("| masks | cut | cracks | instances | whole | torn | merged | lost |")
    print("|---|---|---|---|---|---|---|---|")
    for name, scale, sigma in CHANGES:
        for label, cut in cuts.items():
            total = Counter[str]()
            for cracks in drawn:
                total += outcome(cracks, cut(soften(cracks, scale, sigma)), scale)
            cells = ("cracks", "instances", "whole", "torn", "merged", "lost")
            print(f"| {name} | {label} |", " | ".join(str(total[key]) for key in cells), "|")


CHANGES = [
    (f"{name}, JPEG q=75", scale, sigma)
    for name, scale, sigma in (
        ("as drawn", 1.0, 0.0), ("blurred, sigma 1", 1.0, 1.0), ("blurred, sigma 2", 1.0, 2.0),
        ("half size", 0.5, 0.0), ("quarter size", 0.25, 0.0), ("blurred 1, half size", 0.5, 1.0),
    )
]  # fmt: skip


def draw(seed: int) -> NDArray[np.int32]:
    """The number of the crack of each pixel (SIDE, SIDE); 0 for none."""
    generator = np.random.default_rng(seed)
    cracks = np.zeros((SIDE, SIDE), np.int32)
    wanted, number = int(generator.integers(2, 7)), 0
    while number < wanted:
        line = path(generator)
        if number and generator.random() < 0.5:  # beside an earlier one
            rows, columns = np.nonzero(cracks == number)
            at = generator.integers(len(rows))
            offset = generator.integers(6, 13)
            line = line - line[0] + [columns[at], rows[at] + offset]
        one = np.zeros((SIDE, SIDE), np.uint8)
        cv2.polylines(one, [line.astype(np.int32)], False, 1, int(generator.integers(1, 4)))
        near = cv2.dilate(one, np.ones((9, 9), np.uint8)) > 0
        if one.sum() > 40 and not cracks[near].any():
            number += 1
            cracks[one > 0] = number
    return cracks


def path(generator: np.random.Generator) -> NDArray[np.float64]:
    """A crack's points (n, 2) as x, y: it wanders from a place in one direction."""
    turn = generator.uniform(0, 2 * np.pi) + np.cumsum(generator.normal(0, 0.35, 10))
    steps = generator.uniform(8, 22) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return generator.uniform(60, SIDE - 60, 2) + np.cumsum(steps, axis=0)


def soften(cracks: NDArray[np.int32], scale: float, sigma: float) -> Values:
    """The mask as a tool that shrinks photos would save it."""
    values = np.where(cracks > 0, 255, 0).astype(np.uint8)
    if sigma:
        values = np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.uint8)
    if scale != 1:
        values = np.asarray(
            cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
    data = cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def outcome(cracks: NDArray[np.int32], pixels: NDArray[np.bool_], scale: float) -> Counter[str]:
    """Cracks that are whole, torn, merged and lost; a crack may be torn and merged."""
    count, found = cv2.connectedComponents(pixels.view(np.uint8), connectivity=8)
    total = Counter({"cracks": int(cracks.max()), "instances": count - 1})
    of_crack: dict[int, set[int]] = {number: set() for number in range(1, cracks.max() + 1)}
    owners = nearest(cracks)
    ys, xs = np.nonzero(found)
    rows = np.minimum(((ys + 0.5) / scale).astype(int), SIDE - 1)
    columns = np.minimum(((xs + 0.5) / scale).astype(int), SIDE - 1)
    held: dict[int, Counter[int]] = {}
    for instance, crack in zip(found[ys, xs].tolist(), owners[rows, columns].tolist(), strict=True):
        held.setdefault(instance, Counter())[crack] += 1
    merged = set()
    for instance, of in held.items():
        own = [crack for crack, size in of.items() if size > 0.1 * of.total()]
        for crack in own:
            of_crack[crack].add(instance)
        if len(own) > 1:
            merged |= set(own)
    for number, instances in of_crack.items():
        total["lost"] += not instances
        total["torn"] += len(instances) > 1
        total["merged"] += number in merged
        total["whole"] += len(instances) == 1 and number not in merged
    return total


def nearest(cracks: NDArray[np.int32]) -> NDArray[np.int32]:
    """The crack nearest to each pixel."""
    _, labels = cv2.distanceTransformWithLabels(
        (cracks == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    number = np.zeros(labels.max() + 1, np.int32)
    inside = cracks > 0
    number[labels[inside]] = cracks[inside]
    return np.asarray(number[labels], np.int32)


if __name__ == "__main__":
    main()
