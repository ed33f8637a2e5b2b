"""Which pixels of a map make one label, chosen by what is found and what is false."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from segmenters import Block, blocks_of

from pipeline.metrics.label_quality import compare_labels, label_quality
from pipeline.models.segmentation.defect_map import (
    DefectMap,
    RegionOptions,
    as_detections,
    regions,
)
from pipeline.proposals.region_choice import RegionChoice, smallest_region, try_all
from pipeline.types import Detections

SIZE = (40, 60)
NAMES = ("crack", "stain")
Found = tuple[DefectMap, Detections, str]


def image(truth: list[Block], *parts: tuple[int, int, int, int, float], group: str = "a") -> Found:
    """True objects, and a map with parts x0, y0, x1, y1 of a probability."""
    defect = np.zeros(SIZE, np.uint8)
    for x0, y0, x1, y1, probability in parts:
        defect[y0:y1, x0:x1] = round(probability * 255)
    found = DefectMap(defect, np.zeros(SIZE, np.uint8), len(NAMES))
    return found, blocks_of(SIZE, truth), group


def test_without_an_image_nothing_is_chosen() -> None:
    with pytest.raises(ValueError, match="no image"):
        try_all([], NAMES, 4)
    assert smallest_region([]) == 4


@pytest.mark.parametrize(
    ("areas", "least"), [([1], 4), ([100] * 20, 25), ([4, *[100] * 99], 25), ([1000] * 3, 250)]
)
def test_a_region_has_a_quarter_of_a_usual_small_defect(areas: list[int], least: int) -> None:
    assert smallest_region(areas) == least


def test_on_good_images_alone_no_label_is_false() -> None:
    choice = try_all([image([], (5, 5, 15, 15, 0.9)), image([])], NAMES, 4)
    assert label_quality(choice.images).false_labels == 0


def test_the_threshold_frames_the_defect() -> None:
    """A core of 0.95 is the defect, its rim of 0.45 is not."""
    truth: list[Block] = [(0, 10, 10, 20, 20)]
    choice = try_all([image(truth, (6, 6, 24, 24, 0.45), (10, 10, 20, 20, 0.95))], NAMES, 4)
    assert choice.options.threshold >= 0.5
    assert choice.images[0].defects[0].iou == 1.0


def test_parts_of_one_defect_are_bridged() -> None:
    """Two halves 4 pixels apart: bridged, 200 of 240 pixels are found; else 100."""
    truth: list[Block] = [(0, 10, 10, 34, 20)]
    choice = try_all([image(truth, (10, 10, 20, 20, 0.9), (24, 10, 34, 20, 0.9))], NAMES, 4)
    assert choice.options.bridge_gap >= 4
    assert choice.images[0].defects[0].iou == pytest.approx(200 / 240)


def test_faint_false_regions_are_left_out_by_confidence() -> None:
    """On each of two good images lies a region of 0.77, above every threshold."""
    defect = image([(0, 10, 10, 20, 20)], (10, 10, 20, 20, 0.96))
    choice = try_all([defect, *(image([], (5, 5, 15, 15, 0.77)) for _ in range(2))], NAMES, 4)
    assert choice.confidence == 0.8
    quality = label_quality(choice.images)
    assert (quality.label_iou, quality.false_labels) == (1.0, 0.0)


def test_one_false_label_on_ten_images_is_allowed_and_more_is_not() -> None:
    """The defect is as faint as what is false, 0.65: it is kept with 1 of 10, and given up with 2
    of 10."""
    defect = image([(0, 10, 10, 20, 20)], (10, 10, 20, 20, 0.65))
    for false, found in ((1, 1), (2, 0)):
        others = [image([], (5, 5, 15, 15, 0.65)) for _ in range(false)]
        good = [image([]) for _ in range(9 - false)]
        quality = label_quality(try_all([defect, *others, *good], NAMES, 4).images)
        assert quality.found == found


def test_every_image_has_its_labels_at_the_choice() -> None:
    """As if it were compared at that choice alone."""
    generator = np.random.default_rng(0)
    maps: list[Found] = []
    for number in range(6):
        parts = [
            (x, y, x + 8, y + 8, float(p))
            for (x, y), p in zip(
                product((5, 25, 45), (5, 25)), generator.uniform(0.2, 1, 6), strict=True
            )
        ]
        maps.append(image([(0, 5, 5, 13, 13), (1, 25, 5, 33, 15)], *parts, group=str(number)))
    choice = try_all(maps, NAMES, 4)
    for (found, truth, group), kept in zip(maps, choice.images, strict=True):
        labels = as_detections(found, regions(found, choice.options))
        assert labels.scores is not None
        kept_labels = labels.select(labels.scores >= choice.confidence)
        assert compare_labels(truth, kept_labels, NAMES, group) == kept


def test_regions_below_the_least_area_are_never_tried() -> None:
    choice = RegionChoice(NAMES, 50)
    choice.add(*image([], (5, 5, 12, 12, 0.9)))  # 49 pixels
    best = choice.best()
    assert best.options.min_area == 50
    assert best.images[0].false == 0
    assert isinstance(best.options, RegionOptions)
