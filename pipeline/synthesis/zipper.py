"""One black coil zipper on a white table, drawn as a lit height field.

Lengths are fractions of the side of the image, so every size shows the same product. All random
properties of a zipper are in `Zipper`; `draw` adds only the noise of the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.synthesis.textures import Plane, bricks, grain, slope, smooth_noise

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Tooth:
    """One tooth: one turn of the coil.

    side: -1 (left) or 1 (right). line: its centre line (P, 2) as (u, y); u is the signed distance
    from the axis of the zipper, y the height in the image. gloss: brightness in [0, 1].
    """

    side: int
    line: Points
    radius: float
    gloss: float


@dataclass(frozen=True)
class Stroke:
    """A thin line (P, 2) of (u, y) on top of the zipper: a fibre, a burr or a cut. tone: brightness
    in [0, 1]."""

    line: Points
    radius: float
    tone: float


@dataclass(frozen=True)
class Zipper:
    """A zipper before it is drawn.

    strokes: lines on top. stains: outlines (P, 2) of (u, y) whose inside is darkened, each with its
    depth in [0, 1]. notches: outlines (P, 2) of (u, y) where the cloth is missing.
    """

    seed: int
    axis: float
    tilt: float
    half_width: tuple[float, float]
    teeth: tuple[Tooth, ...]
    cloth_tone: float
    light: tuple[float, float]
    strokes: tuple[Stroke, ...] = ()
    stains: tuple[tuple[Points, float], ...] = ()
    notches: tuple[Points, ...] = ()


_WORK_SIDE = 1024
PITCH = 0.034
COIL = 0.060
_COIL_REACH = 0.16  # beyond it the coil and its shadow change no tone


def new_zipper(generator: np.random.Generator) -> Zipper:
    """A good zipper with random position, tilt, pitch, cloth and light."""
    pitch = PITCH * generator.uniform(0.96, 1.04)
    phase = generator.uniform(0, pitch)
    teeth = []
    for index in range(int(1.2 / pitch) + 2):
        for side in (-1, 1):
            y = -0.06 + phase + index * pitch + (0.5 * pitch if side > 0 else 0.0)
            teeth.append(new_tooth(side, y, generator))
    return Zipper(
        seed=int(generator.integers(2**31)),
        axis=generator.uniform(0.47, 0.55),
        tilt=generator.uniform(-0.02, 0.02),
        half_width=(generator.uniform(0.37, 0.41), generator.uniform(0.37, 0.41)),
        teeth=tuple(teeth),
        cloth_tone=generator.uniform(0.205, 0.245),
        light=(generator.uniform(-0.8, -0.2), generator.uniform(-0.9, -0.4)),
    )


def new_tooth(side: int, y: float, generator: np.random.Generator) -> Tooth:
    """A random tooth at height `y`: its line starts at the outer rim and bends into a straight head
    across the axis."""
    reach = COIL + generator.normal(0, 0.0006)
    angle = np.linspace(-0.35, np.pi / 2, 10)
    rim = np.stack([reach - 0.020 + 0.020 * np.cos(angle), 0.019 * np.sin(angle) - 0.019], axis=1)
    shank = np.stack(
        [np.linspace(reach - 0.024, -0.007, 6), np.linspace(0.0003, 0.0015, 6)], axis=1
    )
    line = np.concatenate([rim, shank]) + generator.normal(0, 0.0004, 2)
    line = line * [side, 1] + [0, y]
    radius = 0.0074 * generator.uniform(0.95, 1.05)
    return Tooth(side, line, radius, generator.uniform(0.85, 1.0))


def draw(zipper: Zipper, side: int) -> NDArray[np.uint8]:
    """The photo, (side, side, 3) uint8 RGB, with the noise of the camera."""
    return camera_image(zipper, draw_tones(zipper, side, draw_cloth(zipper, side)))


def draw_cloth(zipper: Zipper, side: int) -> Plane:
    """The tones (H, W) of the cloth alone. Drawing it takes half of the time of `draw`."""
    return _Canvas(zipper, max(side, _WORK_SIDE)).cloth()


def draw_tones(zipper: Zipper, side: int, cloth: Plane) -> Plane:
    """What the camera sees, (side, side) in [0, 1]. cloth: the result of `draw_cloth` for the same
    zipper, or for one that differs only in its defects."""
    canvas = _Canvas(zipper, max(side, _WORK_SIDE))
    tones = canvas.on_table(canvas.overlay(canvas.coil(cloth)))
    if len(tones) == side:
        return tones
    return np.asarray(cv2.resize(tones, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def camera_image(zipper: Zipper, tones: Plane, noise: bool = True) -> NDArray[np.uint8]:
    """What the camera makes of tones (H, W): (H, W, 3) uint8 RGB. noise: add its noise."""
    generator = np.random.default_rng(zipper.seed)
    sharpness = max(0.45, tones.shape[0] / 1800)
    tones = np.asarray(cv2.GaussianBlur(tones, (0, 0), sharpness), dtype=np.float32)
    gain = 1 + 0.04 * smooth_noise(generator, tones.shape[0], 3)
    grey = np.clip(tones, 0, 1) * 255 * np.where(tones < 0.9, gain, 1)
    colour = np.stack([grey, grey * 0.997, grey * 1.004], axis=2)
    if noise:
        colour += generator.normal(0, 1.2, colour.shape) * (tones < 0.97)[..., None]
    return np.clip(np.round(colour), 0, 255).astype(np.uint8)


class _Canvas:
    """The pixel grids of one drawing, and a method for each layer over the tones (H, W) of the
    layer below. Tones are in [0, 1]."""

    def __init__(self, zipper: Zipper, side: int) -> None:
        self.zipper, self.side = zipper, side
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
        self.y = y
        self.u = x - zipper.axis - zipper.tilt * (y - 0.5)

    def cloth(self) -> Plane:
        zipper, side = self.zipper, self.side
        generator = np.random.default_rng(zipper.seed + 1)
        near = np.exp(-(((np.abs(self.u) - COIL) / 0.05).clip(0) ** 2))
        bend_u = smooth_noise(generator, side, 9) * 0.006
        bend_y = smooth_noise(generator, side, 9) * 0.006
        u, y = (self.u + bend_u)[::2, ::2], (self.y + bend_y)[::2, ::2]
        wide = bricks(u, y, 0.017, 0.020, generator)
        fine = bricks(u, y, 0.0125, 0.0135, generator)
        knit = wide * (1 - near[::2, ::2]) + fine * near[::2, ::2]
        knit = cv2.resize(knit, (side, side), interpolation=cv2.INTER_CUBIC)
        height = cv2.GaussianBlur(knit, (0, 0), side / 1000)
        yarn = cv2.GaussianBlur(grain(generator, side), (0, 0), side / 800)
        tone = zipper.cloth_tone * (1 + 0.05 * smooth_noise(generator, side, 3))
        tone = tone * (0.58 + 0.50 * height) * (1 + 0.20 * yarn)
        tone = tone * (1 + 0.40 * slope(height * 8, zipper.light))
        seam = np.exp(-(((np.abs(self.u) - 0.33) / 0.0022) ** 2))
        return np.asarray(tone * (1 - 0.14 * seam), dtype=np.float32)

    def coil(self, tone: Plane) -> Plane:
        """The coil is drawn in the columns that it and its shadow can reach."""
        reached = np.flatnonzero((np.abs(self.u) < _COIL_REACH).any(axis=0))
        columns = slice(int(reached[0]), int(reached[-1]) + 1)
        tone = tone.copy()
        height, gloss = np.zeros((2, self.side, self.side), np.float32)
        for turn in self.zipper.teeth:
            self._tube(height, gloss, turn.line, turn.radius, turn.gloss)
        tone[:, columns] = self._lit_coil(
            tone[:, columns], height[:, columns], gloss[:, columns], columns
        )
        return tone

    def _lit_coil(self, tone: Plane, height: Plane, gloss: Plane, columns: slice) -> Plane:
        zipper, side = self.zipper, self.side
        rim = np.abs(self.u[:, columns])
        bed = np.clip((COIL + 0.004 - rim) / 0.008, 0, 1)
        tone = tone * (1 - 0.42 * bed)
        shadow = cv2.GaussianBlur((height > 0).astype(np.float32), (0, 0), side * 0.004)
        tone = tone * (1 - 0.45 * shadow * (height <= 0))
        lean = slope(height * 90, zipper.light)
        shine = height**8 * (0.05 + 0.17 * np.clip((rim - 0.042) / 0.012, 0, 1))
        body = (0.14 + 0.13 * height + shine) * gloss * (1 + 0.35 * np.clip(lean, -1, 1))
        cover = np.clip(height * 2, 0, 1)
        tone = tone * (1 - cover) + body * cover
        cord = np.exp(-(((rim - 0.020) / 0.0075) ** 4)) * (0.62 - 0.20 * cover)
        weft = 0.225 + 0.03 * np.sin((self.y[:, columns] + 0.4 * rim) * 2 * np.pi / 0.0085)
        return np.asarray(tone * (1 - cord) + weft * cord, dtype=np.float32)

    def overlay(self, tone: Plane) -> Plane:
        for outline, depth in self.zipper.stains:
            blot = self._filled(outline)
            soft = cv2.GaussianBlur(blot, (0, 0), self.side * 0.0025)
            tone = np.asarray(tone * (1 - depth * soft), dtype=np.float32)
        height, level = self._fibres
        cover = np.clip(height * 2, 0, 1)
        laid = tone * (1 - cover) + level * (0.75 + 0.25 * height) * cover
        tone = np.asarray(laid, dtype=np.float32)
        generator = np.random.default_rng(self.zipper.seed + 2)
        for _ in range(int(generator.integers(4, 14))):  # lint
            x, y = generator.integers(0, self.side, 2)
            length = int(generator.integers(0, self.side // 200 + 1))
            bright = float(generator.uniform(0.30, 0.55))
            cv2.line(tone, (int(x), int(y)), (int(x) + length, int(y) + length // 2), bright, 1)
        return np.asarray(tone, dtype=np.float32)

    def on_table(self, tone: Plane) -> Plane:
        generator = np.random.default_rng(self.zipper.seed + 3)
        left, right = self.zipper.half_width
        ripple = np.cumsum(generator.normal(0, 1, (2, self.side)), axis=1)
        ripple -= cv2.GaussianBlur(ripple, (0, 0), self.side / 30)
        ripple = ripple * 0.0004 + 0.0015 * np.sin(self.y[:, 0] * 2 * np.pi * 70)
        inside = np.minimum(self.u + left + ripple[0][:, None], right + ripple[1][:, None] - self.u)
        cover = np.clip(inside * self.side / 1.5 + 0.5, 0, 1)
        for outline in self.zipper.notches:
            cover = cover * (1 - cv2.GaussianBlur(self._filled(outline), (0, 0), 1.0))
        edge = 1 - 0.25 * np.exp(-(inside.clip(0) / 0.004))
        table = 0.995
        fibres, _ = self._fibres  # some reach beyond the cloth
        cover = np.maximum(cover, np.clip(fibres * 2, 0, 1))
        return np.asarray(tone * edge * cover + table * (1 - cover), dtype=np.float32)

    @cached_property
    def _fibres(self) -> tuple[Plane, Plane]:
        height, level = np.zeros((2, self.side, self.side), np.float32)
        for stroke in self.zipper.strokes:
            self._tube(height, level, stroke.line, stroke.radius, stroke.tone)
        return height, level

    def _pixels(self, line: Points) -> Points:
        x = line[:, 0] + self.zipper.axis + self.zipper.tilt * (line[:, 1] - 0.5)
        return np.stack([x, line[:, 1]], axis=1) * self.side

    def _filled(self, outline: Points) -> Plane:
        blot = np.zeros((self.side, self.side), np.float32)
        cv2.fillPoly(blot, [np.round(self._pixels(outline) * 16).astype(np.int32)], 1.0, shift=4)
        return blot

    def _tube(self, height: Plane, level: Plane, line: Points, radius: float, tone: float) -> None:
        """Add a round tube along a line, in place: raise `height` to at most 1, and set `level` to
        `tone` there."""
        points = self._pixels(line)
        reach = radius * self.side
        low = np.maximum(np.floor(points.min(axis=0) - reach - 2), 0).astype(int)
        high = np.minimum(np.ceil(points.max(axis=0) + reach + 2), self.side).astype(int)
        if (high <= low).any():
            return
        rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
        away = np.full((high[1] - low[1], high[0] - low[0]), 255, np.uint8)
        path = np.round((points - low) * 16).astype(np.int32)
        cv2.polylines(away, [path], isClosed=False, color=0, thickness=1, shift=4)
        distance = np.minimum(cv2.distanceTransform(away, cv2.DIST_L2, 5) / reach, 1)
        tube = np.sqrt(1 - distance**2)
        above = tube > height[rows, columns]
        height[rows, columns][above] = tube[above]
        level[rows, columns][above] = tone
