"""The seven defects of MVTec AD's zipper. Each function makes a defective Zipper from a good one;
`y` is the height of the defect in the image, in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.synthesis.zipper import (
    COIL,
    PITCH,
    Points,
    Stroke,
    Tooth,
    Zipper,
    camera_image,
    draw_cloth,
    draw_tones,
)

Defect = Callable[[Zipper, np.random.Generator, float], Zipper]
_MIN_CHANGE = 7  # grey levels by which a pixel must differ to be part of the mask


def broken_teeth(zipper: Zipper, generator: np.random.Generator, y: float) -> Zipper:
    """One to three teeth of one side are broken off, with bright splinters at the breaks."""
    side = int(generator.choice([-1, 1]))
    reach = PITCH * generator.uniform(0.8, 2.2)
    teeth, strokes = [], list(zipper.strokes)
    for tooth in zipper.teeth:
        head = tooth.line[-1]
        if tooth.side == side and abs(head[1] - y) < reach:
            keep = int(generator.integers(4, 11))
            strokes += _splinters(tooth.line[keep], generator, int(generator.integers(2, 6)), 0.014)
            teeth.append(replace(tooth, line=tooth.line[:keep]))
        else:
            teeth.append(tooth)
    return replace(zipper, teeth=tuple(teeth), strokes=tuple(strokes))


def squeezed_teeth(zipper: Zipper, generator: np.random.Generator, y: float) -> Zipper:
    """Some teeth of one side are pressed together and bent."""
    side = int(generator.choice([-1, 1]))
    reach = PITCH * generator.uniform(1.6, 3.0)
    strength, lean = generator.uniform(0.35, 0.6), generator.uniform(-0.35, 0.35)

    def press(line: Points) -> Points:
        away = line[:, 1] - y
        weight = np.exp(-((away / reach) ** 2))
        moved = line.copy()
        moved[:, 1] -= away * weight * strength - lean * weight * (np.abs(line[:, 0]) - 0.03)
        moved[:, 0] *= 1 - 0.30 * weight * strength
        return moved

    return replace(zipper, teeth=_each(zipper.teeth, press, side))


def split_teeth(zipper: Zipper, generator: np.random.Generator, y: float) -> Zipper:
    """The two sides are apart over some teeth, and the cloth between them is visible."""
    reach = PITCH * generator.uniform(1.8, 3.6)
    gap = generator.uniform(0.010, 0.020, 2)

    def separate(line: Points) -> Points:
        moved = line.copy()
        outward = 1 if line[0, 0] > 0 else -1
        weight = np.exp(-((np.abs(line[:, 1] - y) / reach) ** 4))
        moved[:, 0] += outward * gap[(outward + 1) // 2] * weight
        moved[:, 1] += 0.3 * PITCH * weight * np.sin((line[:, 1] - y) / reach * 2)
        return moved

    return replace(zipper, teeth=_each(zipper.teeth, separate, 0))


def rough(zipper: Zipper, generator: np.random.Generator, y: float) -> Zipper:
    """The rim of some teeth is scraped: there are short white scuffs along it."""
    reach = PITCH * generator.uniform(1.4, 3.0)
    sides = (-1, 1) if generator.uniform() < 0.6 else (int(generator.choice([-1, 1])),)
    strokes = list(zipper.strokes)
    for tooth in zipper.teeth:
        if tooth.side in sides and abs(tooth.line[-1][1] - y) < reach:
            for _ in range(int(generator.integers(3, 7))):
                start = int(generator.integers(0, 11))
                scuff = tooth.line[start : start + int(generator.integers(2, 5))]
                scuff = scuff + generator.normal(0, 0.0012, scuff.shape)
                width = generator.uniform(0.0014, 0.0034)
                strokes.append(Stroke(scuff, width, generator.uniform(0.42, 0.85)))
    return replace(zipper, strokes=tuple(strokes))


def fabric_border(zipper: Zipper, generator: np.random.Generator, y: float) -> Zipper:
    """The edge of the cloth is torn: a notch, and loose fibres across it and beyond the cloth."""
    side = int(generator.choice([-1, 1]))
    border = side * zipper.half_width[(side + 1) // 2]
    tall, deep = generator.uniform(0.025, 0.065), generator.uniform(0.010, 0.030)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ragged = generator.uniform(0.6, 1.2, 24)
    notch = np.stack([np.cos(angles) * deep * ragged, np.sin(angles) * tall * ragged], axis=1)
    fibres = [
        Stroke(
            _fibre(
                np.array([border - side * 0.006, y + generator.normal(0, tall * 0.7)]),
                generator.normal(np.pi / 2 * (1 - side), 0.9),
                generator.uniform(0.018, 0.055),
                generator,
            ),
            generator.uniform(0.0007, 0.0016),
            generator.uniform(0.20, 0.62),
        )
        for _ in range(int(generator.integers(6, 16)))
    ]
    return replace(
        zipper,
        notches=(*zipper.notches, notch + np.array([border, y])),
        strokes=(*zipper.strokes, *fibres),
    )


def fabric_interior(zipper: Zipper, generator: np.random.Generator, y: float) -> Zipper:
    """A cut, a hole or a pulled thread in the cloth beside the teeth, in any direction."""
    side = int(generator.choice([-1, 1]))
    centre = np.array([side * generator.uniform(COIL + 0.05, 0.29), y])
    turn = generator.uniform(0, np.pi)
    long, thin = generator.uniform(0.05, 0.13), generator.uniform(0.006, 0.024)
    spine = _fibre(
        centre - 0.5 * long * np.array([np.cos(turn), np.sin(turn)]), turn, long, generator
    )
    across = np.array([-np.sin(turn), np.cos(turn)])
    bulge = np.sin(np.linspace(0, np.pi, len(spine))) * thin
    upper = spine + across * (bulge * generator.uniform(0.5, 1.2, len(spine)))[:, None]
    lower = spine - across * (bulge * generator.uniform(0.5, 1.2, len(spine)))[:, None]
    outline = np.concatenate([upper, lower[::-1]])
    threads = [
        Stroke(
            _fibre(
                spine[int(generator.integers(len(spine)))],
                turn + generator.normal(np.pi / 2, 0.5),
                generator.uniform(0.015, 0.045),
                generator,
            ),
            generator.uniform(0.0008, 0.0018),
            generator.uniform(0.28, 0.52),
        )
        for _ in range(int(generator.integers(3, 9)))
    ]
    depth = generator.uniform(0.35, 0.7)
    return replace(
        zipper,
        stains=(*zipper.stains, (outline, depth)),
        strokes=(*zipper.strokes, *threads),
    )


def combined(zipper: Zipper, generator: np.random.Generator, y: float) -> Zipper:
    """Two different defects, half an image apart."""
    first, second = generator.choice(len(_SINGLE_DEFECTS), 2, replace=False)
    other = y + 0.5 if y < 0.5 else y - 0.5
    once: Zipper = _SINGLE_DEFECTS[first](zipper, generator, y)
    twice: Zipper = _SINGLE_DEFECTS[second](once, generator, other)
    return twice


_SINGLE_DEFECTS: tuple[Defect, ...] = (
    broken_teeth,
    fabric_border,
    fabric_interior,
    rough,
    split_teeth,
    squeezed_teeth,
)
DEFECTS: dict[str, Defect] = {
    defect.__name__: defect for defect in (broken_teeth, combined, *_SINGLE_DEFECTS[1:])
}


def photograph(
    zipper: Zipper, defective: Zipper, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The photo of a defective zipper, (side, side, 3) uint8 RGB, and its mask (side, side).

    zipper: the same zipper without the defect. The mask is the pixels that differ between the two,
    without camera noise; small gaps are closed, holes are filled, and specks are left out.
    """
    cloth = draw_cloth(zipper, side)
    good, bad = (draw_tones(one, side, cloth) for one in (zipper, defective))
    before, after = (
        camera_image(zipper, tones, noise=False).astype(np.int16) for tones in (good, bad)
    )
    changed = (np.abs(after - before).max(axis=2) >= _MIN_CHANGE).astype(np.uint8)
    reach = max(3, round(side * 0.020)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    changed = cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    padded = cv2.morphologyEx(np.pad(changed, reach), cv2.MORPH_CLOSE, kernel)
    closed = padded[reach:-reach, reach:-reach]
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros_like(closed)
    smallest = 6e-5 * side * side
    cv2.drawContours(mask, [o for o in outlines if cv2.contourArea(o) >= smallest], -1, 1, -1)
    return camera_image(defective, bad), mask.astype(bool)


def _each(
    teeth: tuple[Tooth, ...], change: Callable[[Points], Points], side: int
) -> tuple[Tooth, ...]:
    return tuple(
        replace(tooth, line=change(tooth.line)) if side in (0, tooth.side) else tooth
        for tooth in teeth
    )


def _fibre(start: Points, angle: float, length: float, generator: np.random.Generator) -> Points:
    turns = angle + np.cumsum(generator.normal(0, 0.22, 12))
    steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * length / 12
    return np.asarray(start + np.cumsum(steps, axis=0))


def _splinters(
    at: Points, generator: np.random.Generator, count: int, length: float
) -> list[Stroke]:
    return [
        Stroke(
            _fibre(
                at + generator.normal(0, 0.002, 2),
                generator.uniform(0, 2 * np.pi),
                length * generator.uniform(0.5, 1.6),
                generator,
            ),
            generator.uniform(0.0009, 0.0024),
            generator.uniform(0.45, 0.95),
        )
        for _ in range(count)
    ]
