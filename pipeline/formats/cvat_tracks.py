"""CVAT's tracks: one object in the frames of a video, given at key frames.

CVAT writes the frames between two key frames too. Where they are not in the file, they are
interpolated by CVAT's rule: boxes and ellipses go straight and turn the shorter way. Points of two
polygons are matched by how far along the outline they are, and go straight.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.cvat_shapes import Shape
from pipeline.geometry.polygons import Ring


@dataclass(frozen=True)
class TrackedShape:
    """A shape in a frame. is_outside: the object is not in sight from this frame on. is_given: it
    is in the file, not interpolated."""

    frame: int
    shape: Shape
    is_outside: bool = False
    is_given: bool = True


def visible_shapes(given: Sequence[TrackedShape], frames: Sequence[int]) -> Iterator[TrackedShape]:
    """The shape of a track in each frame where it is in sight.

    given: in the order of their frames, none twice. frames: of the video, ascending; shapes are
    interpolated in these alone.
    """
    for first, second in zip_longest(given, given[1:]):
        if first.is_outside:
            continue
        yield first
        start = bisect_right(frames, first.frame)
        stop = bisect_left(frames, second.frame) if second else len(frames)
        for frame in frames[start:stop]:
            shape = first.shape
            if second:
                share = (frame - first.frame) / (second.frame - first.frame)
                shape = between(first.shape, second.shape, share)
            yield TrackedShape(frame, shape, is_given=False)


def between(first: Shape, second: Shape, share: float) -> Shape:
    """The shape at `share` in (0, 1) of the way from one to another. Masks, and shapes of two
    types, stay as the first."""
    if first.kind != second.kind or first.kind == "mask":
        return first
    if first.kind == "polygon":
        one, two = (shape.numbers.reshape(-1, 2) for shape in (first, second))
        return replace(first, numbers=polygon_between(one, two, share).ravel())
    turn = (second.rotation - first.rotation + 180) % 360 - 180
    numbers = first.numbers + (second.numbers - first.numbers) * share
    return replace(first, numbers=numbers, rotation=(first.rotation + turn * share) % 360)


def polygon_between(first: Ring, second: Ring, share: float) -> Ring:
    """The polygon at `share` of the way from one (P, 2) to another (Q, 2).

    Each point goes to the point of the other that is as far along the outline; so does each point
    of the second that none goes to. Where many points go to one, those closer than half of their
    usual distance become one.
    """
    one, two = (np.concatenate([ring, ring[:1]]) for ring in (first, second))
    matches = _matches(_offsets(one), _offsets(two))
    rings = [
        one[index] + (two[others] - one[index]) * share for index, others in enumerate(matches)
    ]
    points: list[NDArray[np.float64]] = []
    start = 0
    while start < len(one):
        stop = start + 1
        if len(matches[start]) == 1:
            while stop < len(one) and matches[stop] == matches[start]:
                stop += 1
            source = one[start:stop]
        else:
            source = two[matches[start][0] : matches[start][-1] + 1]
        points.append(_thinned(np.concatenate(rings[start:stop]), source))
        start = stop
    return np.concatenate(points)[:-1]


def _offsets(ring: Ring) -> NDArray[np.float64]:
    """How far along the outline each point is, in [0, 1]."""
    steps = np.linalg.norm(np.diff(ring, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    return np.asarray(along / (along[-1] or 1.0))


def _matches(one: NDArray[np.float64], two: NDArray[np.float64]) -> list[list[int]]:
    """For each point of the first outline, those of the second that it goes to, ascending."""
    nearest = [int(np.abs(two - offset).argmin()) for offset in one]
    matches = [[index] for index in nearest]
    for index in sorted(set(range(len(two))) - set(nearest)):
        matches[int(np.abs(one - two[index]).argmin())].append(index)
    return [sorted(group) for group in matches]


def _thinned(points: Ring, source: Ring) -> Ring:
    """Points without those that are closer to the last one than half of the usual distance in
    `source`, the part of an outline that they come from. The first and the last stay, unless they
    are all and as close: then their middle stays."""
    if len(points) == 1:
        return points
    length = float(np.linalg.norm(np.diff(source, axis=0), axis=1).sum())
    least = length / (2 * len(source))
    kept = [points[0]]
    for point in points[1:-1]:
        if np.linalg.norm(point - kept[-1]) >= least:
            kept.append(point)
    if len(kept) == 1 and np.linalg.norm(points[-1] - points[0]) < least:
        return np.asarray(points[[0, -1]].mean(axis=0, keepdims=True))
    return np.array([*kept, points[-1]])
