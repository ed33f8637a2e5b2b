"""Polygons made from masks, for readers with different conventions for the place of a pixel.

pycocotools, which reads COCO, takes a vertex for a corner of pixels, so rings on pixel edges are
read back without a changed pixel. `cv2.fillPoly`, with which YOLO segmentation is trained, and PIL,
with which LabelMe draws, take a vertex for the centre of a pixel. None of these formats has holes:
a seam, a line to the hole and back that adds no area, connects a hole with the outer ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.geometry.patches import Patch, tight

Ring = NDArray[np.float64]
Rings = list[Ring]
Reader = Callable[[Rings], Patch]

_DECIMALS = 1e-3  # of a pixel; six decimals of a side of 2,000 are exact to that
_TOLERANCES = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5)  # pixels, tried in this order


def edge_polygons(patch: Patch) -> list[Rings]:
    """Polygons on pixel edges: for each 4-connected part its outer ring, then its holes.

    Each ring is (P, 2) xy in pixels of the image; the first point is not repeated. Parts that meet
    at a corner stay two parts, so each polygon is valid by OGC simple features.
    """
    if not patch.pixels.any():
        return []
    _, labels = cv2.connectedComponents(patch.pixels.view(np.uint8), connectivity=4)
    polygons: list[Rings] = [[] for _ in range(int(labels.max()))]
    corner = np.array([patch.x, patch.y])
    for ring in _edge_rings(np.asarray(labels, dtype=np.int32)):
        column, row = ring[np.lexsort(ring.T[::-1])[0]]  # leftmost, then topmost
        inside = int(labels[row, column])  # 0: the ring of a hole; its part is to the left
        polygon = polygons[(inside or int(labels[row, column - 1])) - 1]
        shifted = (ring + corner).astype(np.float64)
        polygon.insert(0 if inside else len(polygon), shifted)
    return polygons


def _edge_rings(labels: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """The closed paths around the parts of `labels` (0: background): (P, 2) xy corners each.

    Every corner ends one horizontal and one vertical edge. Sorted along rows, the corners are pairs
    that form the horizontal edges; sorted along columns, pairs that form the vertical ones. A
    corner where two pixels meet only diagonally counts twice: there the paths of two different
    parts separate, and the path of one part continues from one pixel to the other.
    """
    padded = np.pad(labels, 1)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    turning = ((a > 0) ^ (b > 0)) ^ ((c > 0) ^ (d > 0))
    falling = (a > 0) & (d > 0) & (b == 0) & (c == 0)
    rising = (b > 0) & (c > 0) & (a == 0) & (d == 0)
    straight = (falling & (a != d)) | (rising & (b == c))  # left with up, right with down
    crossed = (falling | rising) & ~straight
    at = [np.argwhere(where) for where in (turning, straight, straight, crossed, crossed)]
    sizes = [len(corners) for corners in at]
    corners = np.concatenate(at)  # (P, 2) row, column
    row_turn = np.repeat([0, 0, 1, 0, 1], sizes)  # first ends the edge from the left
    column_turn = np.repeat([0, 0, 1, 1, 0], sizes)  # first ends the edge from above
    along_row = np.lexsort((row_turn, corners[:, 1], corners[:, 0]))
    along_column = np.lexsort((column_turn, corners[:, 0], corners[:, 1]))
    across, down = _partners(along_row), _partners(along_column)
    visited = [False] * len(corners)
    points = corners[:, ::-1]
    for start in range(len(corners)):
        path, corner = [], start
        while not visited[corner]:
            other = across[corner]
            visited[corner] = visited[other] = True
            path += [corner, other]
            corner = down[other]
        if path:
            yield points[path]


def _partners(order: NDArray[np.intp]) -> list[int]:
    """For each corner the other end of its edge: neighbours in `order` are pairs."""
    partner = np.empty(len(order), dtype=np.int64)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    partners: list[int] = partner.tolist()
    return partners


def bridged(rings: Sequence[Ring]) -> Ring:
    """One ring from several: seams between nearest points connect the first with all others."""
    merged = rings[0]
    for ring in rings[1:]:
        merged = _join(merged, ring)
    return merged


def _join(base: Ring, ring: Ring) -> Ring:
    from scipy.spatial import KDTree

    distances, nearest = KDTree(base).query(ring)
    start = int(distances.argmin())
    at = int(nearest[start])
    loop = np.concatenate([ring[start:], ring[: start + 1]])
    return np.concatenate([base[: at + 1], loop, base[at:]])


def coco_rings(patch: Patch) -> Rings:
    """One ring for each 4-connected part, with seams to its holes. pycocotools fills exactly the
    patch."""
    return [bridged(rings) for rings in edge_polygons(patch)]


def centre_ring(patch: Patch, holes: bool = True) -> Ring:
    """One ring (P, 2) xy on pixel centres, with seams to further parts and, with `holes`, to holes.
    `fillPoly` fills the patch, and may add the seams. At least three vertices; (0, 2) for an empty
    patch."""
    mode = cv2.RETR_CCOMP if holes else cv2.RETR_EXTERNAL
    contours, _ = cv2.findContours(patch.pixels.astype(np.uint8), mode, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([patch.x, patch.y], dtype=np.float64)
    rings = [contour[:, 0, :] + corner for contour in contours]
    if not rings:
        return np.zeros((0, 2))
    rings.sort(key=len, reverse=True)
    merged = bridged(rings)
    while len(merged) < 3:  # one pixel or a straight line: readers need three vertices
        merged = np.concatenate([merged, merged[:1]])
    return merged


def best_centre_ring(patch: Patch, draw: Reader) -> Ring:
    """The centre ring with the higher IoU after drawing: with or without seams to holes. Seams to
    small holes may cover more pixels than the holes have."""
    ring = centre_ring(patch)
    if len(ring) == len(plain := centre_ring(patch, holes=False)):
        return ring
    return max((ring, plain), key=lambda candidate: patch_iou(patch, draw([candidate])))


def simplified(rings: Rings, patch: Patch, draw: Reader, loss: float) -> Rings:
    """Rings with fewer vertices, simplified by shapely as far as the drawn rings keep an IoU of at
    least 1 - `loss` with the patch.

    draw: how the reader draws rings. With a `loss` of 0 the rings stay unchanged.
    """
    from shapely import LinearRing
    from shapely.errors import ShapelyError

    for tolerance in _TOLERANCES if loss > 0 else ():
        try:
            fewer = [
                np.array(LinearRing(ring).simplify(tolerance).coords)[:-1]
                if len(ring) > 4
                else ring
                for ring in rings
            ]
        except (ShapelyError, ValueError):
            continue
        if all(len(ring) >= 3 for ring in fewer) and patch_iou(patch, draw(fewer)) >= 1 - loss:
            return fewer
    return rings


def draw_coco(rings: Rings, height: int, width: int) -> Patch:
    """The pixels that pycocotools draws: the union of the rings, each (P, 2) xy."""
    usable = [ring.ravel().tolist() for ring in rings if len(ring) >= 3]
    if not usable:
        return tight(np.zeros((height, width), dtype=bool))
    merged = coco_mask.merge(coco_mask.frPyObjects(usable, height, width))
    return tight(np.asarray(coco_mask.decode(merged), dtype=bool))


def to_yolo(ring: Ring, height: int, width: int) -> Ring:
    """Xy on pixel centres (P, 2) to YOLO's normalised xy in [0, 1].

    0.5 is added before the division by the size of the image, because ultralytics truncates to
    whole pixels when it draws.
    """
    return (ring + 0.5) / np.array([width, height], dtype=np.float64)


def draw_yolo(ring: Ring, height: int, width: int) -> Patch:
    """The pixels that ultralytics trains on: normalised xy (P, 2), truncated to whole pixels and
    drawn by `fillPoly`. What a file's decimals take from a whole pixel is given back first: 10 of
    120 pixels is 0.083333, and 9.99996."""
    points = (ring * np.array([width, height]) + _DECIMALS).astype(np.int32)
    return draw_centres(points, height, width)


def draw_centres(ring: NDArray[np.number], height: int, width: int) -> Patch:
    """The pixels inside the image that `fillPoly` fills for whole pixel centres (P, 2) xy."""
    if not len(ring):
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    points = np.asarray(ring, dtype=np.int32)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    canvas = np.zeros((high - low)[::-1], dtype=np.uint8)
    cv2.fillPoly(canvas, [points - low], color=1)
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(high, [width, height])
    inside = canvas[y0 - low[1] : max(y1 - low[1], 0), x0 - low[0] : max(x1 - low[0], 0)]
    return tight(inside.astype(bool), int(x0), int(y0))


def patch_iou(first: Patch, second: Patch) -> float:
    """IoU of two patches of one image in [0, 1]; 1 for two empty patches."""
    shared = overlap(first, second)
    union = first.area + second.area - shared
    return shared / union if union else 1.0


def overlap(first: Patch, second: Patch) -> int:
    """The number of pixels that two patches share."""
    x0, y0 = max(first.x, second.x), max(first.y, second.y)
    x1, y1 = (min(one, two) for one, two in zip(first.box[2:], second.box[2:], strict=True))
    if x1 <= x0 or y1 <= y0:
        return 0
    one, two = (
        patch.pixels[y0 - patch.y : y1 - patch.y, x0 - patch.x : x1 - patch.x]
        for patch in (first, second)
    )
    return int(np.count_nonzero(one & two))
