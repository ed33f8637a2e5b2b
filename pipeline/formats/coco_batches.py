"""Many COCO annotations at once: those that are as the format has them are checked and drawn
together. For small masks a call takes longer than its work, so this is some ten times faster.

The others, and all of a batch with a fault, are left to the checks of `coco_schema` and
`coco_masks`, row by row, which name the fault.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, islice
from operator import itemgetter
from typing import Any, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.formats.coco_masks import refuse_far_points, refuse_large
from pipeline.formats.coco_rows import JsonRow
from pipeline.formats.image_objects import ROUNDED
from pipeline.formats.schema import MOST_NUMBER
from pipeline.geometry.masks import Rle
from pipeline.geometry.runs import cover

_ROWS, _VALUES = 512, 1 << 17  # of a batch: annotations, and numbers or characters of outlines
_NUMBERS = {int, float}
_IDS = {int, str}
_ANGLES = ("rotation", "angle", "theta")
_MOST_ID = (1 << 63) - 1
_COLUMNS = itemgetter("id", "image_id", "category_id", "segmentation")
_CHECKED = {"id", "image_id", "category_id", "bbox", "score", "segmentation"}
Size = tuple[int, int]


class _Plain(TypedDict):
    """What is needed of a row whose form is checked."""

    image_id: int | str
    segmentation: Any  # by group: rings of x, y, x, y, ..., or packed RLE; later its `Rle`


def batches(rows: Iterable[object]) -> Iterator[list[object]]:
    """The rows in lists of a bounded size."""
    batch: list[object] = []
    values = 0
    for row in rows:
        batch.append(row)
        values += _values(row)
        if len(batch) == _ROWS or values > _VALUES:
            yield batch
            batch, values = [], 0
    if batch:
        yield batch


class PlainRows:
    """Finds and draws the annotations that are as COCO has them."""

    def __init__(self, sizes: Mapping[object, Size | None], categories: Collection[object]) -> None:
        """sizes: (height, width) of each image by its id in the file; None for a faulty image.
        categories: their ids."""
        self._sizes, self._categories = sizes, categories
        self._keys = set(_CHECKED)  # keys of rows that can be written
        self.clipped: set[int] = set()  # `id` of the rows drawn last that reach out of their image

    def draw(self, rows: Sequence[object]) -> Sequence[bool]:
        """Whether each row is plain. The segmentation of a plain row becomes its RLE."""
        marks = [True] * len(rows) if self._are_plain(rows) else list(map(self._is_plain, rows))
        plain = cast(list[_Plain], list(compress(rows, marks)))
        polygons: dict[Size, list[_Plain]] = defaultdict(list)
        packed: dict[Size, list[_Plain]] = defaultdict(list)
        for row in plain:
            if segmentation := row.get("segmentation"):
                group = polygons if type(segmentation) is list else packed
                group[cast(Size, self._sizes[row["image_id"]])].append(row)
        self.clipped = set()
        masks = _drawn(polygons, packed, self.clipped) if _are_boxes(plain) else None
        if masks is None:
            return [False] * len(rows)
        for row, rle in masks:
            row["segmentation"] = rle
        return marks

    def _are_plain(self, rows: Sequence[Any]) -> bool:
        """Whether all rows are plain, and of the most common form: with an id and a segmentation,
        without a score. Column by column, which is faster than `_is_plain` for each."""
        if set(map(type, rows)) != {dict}:
            return False
        keys = set(chain.from_iterable(rows))
        if not keys <= self._keys or "score" in keys:
            return False
        try:
            ids, images, categories, segmentations = zip(*map(_COLUMNS, rows), strict=True)
        except KeyError:
            return False
        if not _are_ids(ids, images, categories):
            return False
        sizes = [self._sizes.get(image) for image in images]
        are_listed = None not in sizes and all(key in self._categories for key in set(categories))
        return are_listed and _are_usual(segmentations, cast(list[Size], sizes))

    def _is_plain(self, row: object) -> bool:
        """Whether a row names what is in the file, and has outlines of the usual form, or none.
        Their numbers, and those of its box, are not checked yet."""
        if type(row) is not dict:
            return False
        image, category = row.get("image_id"), row.get("category_id")
        if type(image) not in _IDS or type(category) not in _IDS or not self._has_score(row):
            return False
        size = self._sizes.get(image)
        if size is None or category not in self._categories or not self._may_be_kept(row):
            return False
        segmentation = row.get("segmentation")
        if type(segmentation) is list and segmentation:
            return _are_rings(segmentation)
        if type(segmentation) is dict:
            return segmentation.get("size") == [*size] and type(segmentation.get("counts")) is str
        is_upright = not rotation_of(row) and not has_own_angle(row)
        return not segmentation and bool(row.get("bbox")) and is_upright

    def _has_score(self, row: JsonRow) -> bool:
        score = row.get("score")
        if score is None:
            return True
        if not isinstance(score, (int, float)) or type(score) is bool:
            return False
        return -MOST_NUMBER <= score <= MOST_NUMBER

    def _may_be_kept(self, row: JsonRow) -> bool:
        """Whether the id is a whole number, and all keys can be written."""
        number = row.get("id")
        if number is not None and (type(number) is not int or number.bit_length() > 63):
            return False
        if more := row.keys() - self._keys:
            try:
                "".join(more).encode()
            except UnicodeEncodeError:
                return False
            self._keys |= more
        return True


def _are_ids(ids: Sequence[Any], images: Sequence[Any], categories: Sequence[Any]) -> bool:
    """Whether the ids of annotations are whole numbers of 64 bits, and the others may be ids."""
    if set(map(type, ids)) != {int} or max(ids) > _MOST_ID or min(ids) < -_MOST_ID:
        return False
    return set(map(type, (*images, *categories))) <= _IDS


def _are_usual(segmentations: Sequence[Any], sizes: Sequence[Size]) -> bool:
    """Whether all are polygons, or all compressed RLE of images of these sizes."""
    types = set(map(type, segmentations))
    if types == {list}:
        return all(segmentations) and _are_rings(list(chain.from_iterable(segmentations)))
    return types == {dict} and all(
        segmentation.get("size") == [*size] and type(segmentation.get("counts")) is str
        for segmentation, size in zip(segmentations, sizes, strict=True)
    )


def _are_rings(rings: Sequence[Any]) -> bool:
    """Whether each is a list of the length of a polygon."""
    return set(map(type, rings)) == {list} and all(
        length >= 6 and not length % 2 for length in set(map(len, rings))
    )


def _are_boxes(rows: Sequence[Any]) -> bool:
    """Whether each box is absent, or four numbers that are not too large."""
    boxes = [box for row in rows if (box := row.get("bbox"))]
    if not all(type(box) is list and len(box) == 4 for box in boxes):
        return False
    numbers = list(chain.from_iterable(boxes))
    return _are_numbers(numbers) and bool((np.abs(_array(numbers)) <= MOST_NUMBER).all())


def rotation_of(row: Mapping[str, object]) -> float:
    """The degrees, clockwise, by which CVAT's COCO files turn a box; 0 for none."""
    attributes = row.get("attributes")
    turned = attributes.get("rotation") if isinstance(attributes, dict) else None
    if isinstance(turned, (int, float)) and -MOST_NUMBER <= turned <= MOST_NUMBER:
        return float(turned) % 360
    return 0.0


def has_own_angle(row: Mapping[str, Any]) -> bool:
    """Whether a row has an angle of its own, which COCO has not: nothing says what it turns."""
    angles = (row.get(name) for name in _ANGLES)
    return any(isinstance(angle, (int, float)) and angle for angle in angles)


def _drawn(
    polygons: Mapping[Size, Sequence[_Plain]],
    packed: Mapping[Size, Sequence[_Plain]],
    clipped: set[int],
) -> list[tuple[_Plain, Rle]] | None:
    """The rows with their masks; None where one is at fault. Adds to `clipped` the `id` of each row
    whose polygons reach out of the image."""
    masks: list[tuple[_Plain, Rle]] = []
    try:
        for size in {*polygons, *packed}:
            refuse_large(size)
        for (height, width), rows in packed.items():
            texts = [row["segmentation"]["counts"].encode() for row in rows]
            if not cover(texts, height * width):
                return None
            side = [height, width]  # one for all: of a million masks it is a tenth of the memory
            rles = (Rle(size=side, counts=text) for text in texts)
            masks += zip(rows, rles, strict=True)
        for size, rows in polygons.items():
            outlines = _Outlines.of([row["segmentation"] for row in rows], size)
            masks += zip(rows, outlines.draw(), strict=True)
            clipped |= {id(rows[number]) for number in outlines.reaching_out()}
    except ValueError:  # a character that is no Unicode, too
        return None
    return masks


@dataclass(frozen=True)
class _Outlines:
    """Polygons of one or more rings each, on images of one size. points: (P, 2) of all rings. ends:
    where each ring ends in them. rings: how many each polygon has."""

    points: NDArray[np.float64]
    ends: NDArray[np.int64]
    rings: Sequence[int]
    size: Size

    @classmethod
    def of(cls, outlines: Sequence[list[list[float]]], size: Size) -> _Outlines:
        """Raises ValueError for what is no number, and for points far outside the image."""
        rings = list(chain.from_iterable(outlines))
        numbers = list(chain.from_iterable(rings))
        if not _are_numbers(numbers):
            raise ValueError("a polygon of other values than numbers")
        points = _array(numbers).reshape(-1, 2)
        ends = np.cumsum(list(map(len, rings))) // 2
        refuse_far_points(points, ends, size)
        return cls(points, ends, list(map(len, outlines)), size)

    def draw(self) -> Sequence[Rle]:
        """The mask of each polygon."""
        stops = (2 * self.ends).tolist()
        values = self.points.ravel()
        parts = [values[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]
        drawn = cast(list[Rle], coco_mask.frPyObjects(parts, *self.size))
        if len(drawn) == len(self.rings):
            return drawn
        of_each = iter(drawn)
        groups = (list(islice(of_each, count)) for count in self.rings)
        return [
            cast(Rle, coco_mask.merge(group)) if len(group) > 1 else group[0] for group in groups
        ]

    def reaching_out(self) -> Sequence[int]:
        """The numbers of the polygons that have a point outside the image."""
        beyond = np.maximum(-self.points, self.points - self.size[::-1]).max(axis=1) > ROUNDED
        if not beyond.any():
            return []
        ends = self.ends[np.cumsum(self.rings) - 1]
        numbers = np.searchsorted(ends, np.flatnonzero(beyond), side="right")
        return cast(list[int], np.unique(numbers).tolist())


def _are_numbers(values: Sequence[object]) -> bool:
    return set(map(type, values)) <= _NUMBERS


def _array(numbers: Sequence[float]) -> NDArray[np.float64]:
    try:
        return np.array(numbers, dtype=np.float64)
    except OverflowError:  # a whole number of hundreds of digits
        return np.full(len(numbers), np.inf)


def _values(row: object) -> int:
    """How many numbers or characters the outline of a row has, about."""
    segmentation = row.get("segmentation") if type(row) is dict else None
    if type(segmentation) is dict:
        counts = segmentation.get("counts")
        return len(counts) if isinstance(counts, (str, list)) else 0
    if type(segmentation) is not list:
        return 0
    if len(segmentation) == 1 and type(segmentation[0]) is list:
        return len(segmentation[0])
    return sum(len(ring) if type(ring) is list else 1 for ring in segmentation)
