"""The pixels of LabelMe's shapes, as `labelme.utils.shape_to_mask` draws them."""

from __future__ import annotations

import base64
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.formats.coco_masks import refuse_far
from pipeline.formats.labelme_schema import LabelMeShape, refuse_large_png
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.geometry.polygons import Ring
from pipeline.geometry.shapes import box_of_ring, rectangle_ring

RECTANGLE, TURNED = "rectangle", "turned rectangle"
CONVERTED = {"circle", "rotation", "oriented_rectangle", TURNED}  # shapes that become masks
DRAWN = {"polygon", "quadrilateral", RECTANGLE, "mask", *CONVERTED}
_MOST_TURN = 1000
_TURN = 1e-6  # radians: a rectangle that is turned less is along the axes


def type_of(shape: LabelMeShape) -> str:
    """The type of a shape; LabelMe 3 wrote none for a polygon. A rectangle whose sides are not
    along the axes is `turned rectangle`."""
    kind = (shape.get("shape_type") or "polygon").lower()
    points = shape.get("points") or ()
    if kind != RECTANGLE or len(points) < 2:
        return kind
    if len(points) == 2:
        return TURNED if abs(math.sin(_direction(shape))) > _TURN else RECTANGLE
    return RECTANGLE if box_of_ring(np.array(points, dtype=np.float64)) else TURNED


def rectangle_points(shape: LabelMeShape) -> Ring:
    """The corners (4, 2) of a rectangle that may be turned: of two points and its `direction` in
    radians, or the points that the file has, which are turned already."""
    points = np.array(shape["points"], dtype=np.float64)
    if len(points) != 2:
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    (x, y), (width, height) = low.tolist(), (high - low).tolist()
    middle = (x + width / 2, y + height / 2)
    return rectangle_ring((x, y), (width, height), math.degrees(_direction(shape)), middle)


def _direction(shape: LabelMeShape) -> float:
    """How far X-AnyLabeling turned a shape, in radians."""
    value = shape.get("direction")
    if isinstance(value, int) and abs(value) < _MOST_TURN:
        value = float(value)
    return value if isinstance(value, float) and math.isfinite(value) else 0.0


def draw_shape(shape: LabelMeShape, height: int, width: int) -> Patch:
    """The pixels of a shape that has an area. Raises ValueError."""
    points = np.array(shape["points"], dtype=np.float64)
    kind = type_of(shape)
    if kind == "mask":
        return _draw_mask(shape.get("mask") or "", points[0], height, width)
    if kind == "circle":
        return _draw_circle(points, height, width)
    if kind == RECTANGLE:
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind in {TURNED, "rotation", "oriented_rectangle"}:
        points = rectangle_points(shape)
    refuse_far(points, (height, width))
    return draw_polygon(points, height, width)


def draw_polygon(ring: Ring, height: int, width: int) -> Patch:
    """The pixels of a polygon (P, 2) xy, drawn by PIL as in `labelme.utils.shape_to_mask`. It is
    drawn on the whole image, because PIL's rounding depends on the place of a polygon."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (width, height))
    points = [tuple(point) for point in ring.tolist()]
    ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
    return tight(np.asarray(canvas) > 0)


def _draw_circle(points: NDArray[np.float64], height: int, width: int) -> Patch:
    """A disc from its centre and a point of its edge."""
    from PIL import Image, ImageDraw

    if len(points) != 2:
        raise ValueError(f"a circle of {len(points)} points; it needs 2")
    (x, y), (edge_x, edge_y) = points.tolist()
    radius = math.hypot(edge_x - x, edge_y - y)
    corners = np.array([(x - radius, y - radius), (x + radius, y + radius)])
    refuse_far(corners, (height, width))
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).ellipse(corners.ravel().tolist(), outline=1, fill=1)
    return tight(np.asarray(canvas) > 0)


def _draw_mask(text: str, corner: NDArray[np.float64], height: int, width: int) -> Patch:
    """The pixels of a PNG in base64, whose top left pixel is at `corner`. Raises ValueError."""
    png = base64.b64decode(text)
    refuse_large_png(png, height, width)
    pixels = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 2:
        raise ValueError("a mask is not a grey PNG")
    left, top = np.rint(corner).astype(int).tolist()
    if not (-len(pixels) <= top <= height and -len(pixels[0]) <= left <= width):
        raise ValueError("a mask lies outside the image")
    return tight(paste(Patch(left, top, np.asarray(pixels != 0)), height, width))
