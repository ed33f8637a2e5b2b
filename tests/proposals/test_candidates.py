"""Candidates of an image, from maps, boxes and masks that are known."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.models.segmentation.defect_map import DefectMap, RegionOptions
from pipeline.proposals.candidates import SAM_AGREES, Evidence, candidates, table_of, without
from pipeline.types import Boxes, Detections, Image, Masks

IMAGE: Image = np.zeros((20, 30, 3), np.uint8)
OPTIONS = RegionOptions(threshold=0.5, min_area=1)


class BoxSam:
    """A SAM whose masks are filled boxes; those narrower than 2 pixels fail."""

    def segment(self, image: Image, boxes: Boxes, heatmap: np.ndarray | None = None) -> Masks:
        size = image.shape[:2]
        failed = np.array([box[2] - box[0] < 2 for box in boxes], bool)
        rles = tuple(mask_geometry.from_box(box, *size) for box in boxes)
        return Masks(rles, failed, {"stability": np.full(len(boxes), 0.5, np.float32)})


def found(*blocks: tuple[int, int, int, int, float]) -> DefectMap:
    """A map with blocks (x0, y0, x1, y1, probability), all of the second of two categories."""
    defect = np.zeros((20, 30), np.uint8)
    for x0, y0, x1, y1, share in blocks:
        defect[y0:y1, x0:x1] = round(255 * share)
    return DefectMap(defect, np.ones((20, 30), np.uint8), 2)


def boxes(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Detections (x0, y0, x1, y1, score, label)."""
    return Detections(
        as_boxes([row[:4] for row in rows]),
        np.array([row[5] for row in rows], np.int64),
        np.array([row[4] for row in rows], np.float32),
    )


def test_an_empty_map_has_no_candidate() -> None:
    assert candidates(IMAGE, Evidence(found()), OPTIONS) == []
    assert table_of([]) == {}


def test_each_region_is_a_candidate_the_likeliest_first() -> None:
    evidence = Evidence(found((2, 2, 6, 6, 0.6), (20, 4, 24, 10, 0.9)))
    likelier, other = candidates(IMAGE, evidence, OPTIONS)
    assert [mask_geometry.area(row.mask(False)) for row in (likelier, other)] == [24, 16]
    assert likelier.label == 1
    assert likelier.figures["area"] == pytest.approx(np.log(24))
    assert likelier.figures["compact"] == 1.0
    assert other.figures["rank"] == pytest.approx(np.log(2))


def test_a_box_where_there_is_no_region_is_a_candidate_with_sams_mask() -> None:
    detections = boxes((2, 2, 6, 6, 0.8, 1), (20, 4, 25, 9, 0.4, 0), (21, 4, 26, 9, 0.3, 0))
    evidence = Evidence(found((2, 2, 6, 6, 0.9)), detections)
    region, alone = candidates(IMAGE, evidence, OPTIONS, BoxSam())
    assert region.region_mask is not None
    assert alone.region_mask is None
    assert (region.finder, alone.finder) == ("segmenter", "detector")
    assert mask_geometry.area(alone.mask(False)) == 25  # the second box covers the third
    assert alone.figures["detector_other"] == 0 or alone.figures["detector_same"] != 0
    assert len(candidates(IMAGE, evidence, OPTIONS)) == 1  # without SAM there is no mask


def test_a_box_without_a_mask_is_no_candidate() -> None:
    evidence = Evidence(found(), boxes((4, 4, 5, 9, 0.9, 0)))
    assert candidates(IMAGE, evidence, OPTIONS, BoxSam()) == []


def test_both_masks_are_kept_and_how_much_they_share() -> None:
    # An L of 4 + 3 pixels in a box of 4 x 4: IoU 7/16.
    defect = found((2, 2, 3, 6, 0.9), (2, 5, 6, 6, 0.9))
    (row,) = candidates(IMAGE, Evidence(defect), OPTIONS, BoxSam())
    assert mask_geometry.area(row.mask(False)) == 7
    assert mask_geometry.area(row.mask(True)) == 16
    assert row.figures[SAM_AGREES] == pytest.approx(7 / 16)


def test_a_detector_adds_to_the_category_that_it_names() -> None:
    defect = found((2, 2, 6, 6, 0.9))  # all of category 1
    (row,) = candidates(IMAGE, Evidence(defect, boxes((2, 2, 6, 6, 0.9, 0))), OPTIONS)
    assert row.shares.tolist() == pytest.approx([0.9, 1.0])
    two = boxes((2, 2, 6, 6, 0.9, 0), (2, 2, 6, 7, 0.4, 0))
    (row,) = candidates(IMAGE, Evidence(defect, two), OPTIONS)
    assert row.label == 0


def test_the_peak_of_the_anomaly_map_is_that_in_the_region() -> None:
    heat = np.zeros((20, 30), np.float32)
    heat[3, 3], heat[15, 25] = 2.0, 9.0
    (row,) = candidates(IMAGE, Evidence(found((2, 2, 6, 6, 0.9)), heat=heat), OPTIONS)
    assert row.figures["anomaly"] == pytest.approx(np.log(2))


def test_without_a_finder_its_figures_masks_and_proposals_are_gone() -> None:
    evidence = Evidence(
        found((2, 2, 6, 6, 0.9)), boxes((20, 4, 25, 9, 0.4, 0)), np.ones((20, 30), np.float32)
    )
    rows = candidates(IMAGE, evidence, OPTIONS, BoxSam())
    assert len(rows) == 2
    (left,) = without(rows, "sam")
    assert left.sam_mask is None
    assert not [name for name in left.figures if name.startswith("sam_")]
    assert len(without(rows, "detector")) == 1
    assert len(without(rows, "anomaly")) == 2
    assert "anomaly" not in without(rows, "anomaly")[0].figures


def test_how_many_candidates_there_are_is_counted_again_without_a_finder() -> None:
    """A region of 16 pixels, and a mask of SAM of 25."""
    evidence = Evidence(found((2, 2, 6, 6, 0.9)), boxes((20, 4, 25, 9, 0.4, 0)))
    rows = candidates(IMAGE, evidence, OPTIONS, BoxSam())
    assert [row.figures["count"] for row in rows] == [pytest.approx(np.log(2))] * 2
    assert [row.figures["share_of_area"] for row in rows] == pytest.approx([16 / 41, 25 / 41])
    (alone,) = without(rows, "detector")
    assert (alone.figures["count"], alone.figures["share_of_area"]) == (0.0, 1.0)
