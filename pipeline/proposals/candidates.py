"""Places of an image that may be a defect, each with a mask and the figures of every finder.

The segmenter proposes its regions. What the detector finds where the segmenter has no region is
proposed too, with a mask of SAM. All other evidence is a figure of the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes, iou
from pipeline.geometry.masks import Rle, encode_patches, to_patch
from pipeline.geometry.patches import Patch
from pipeline.interfaces import PromptedSegmenter
from pipeline.models.sam.calibration import Table
from pipeline.models.segmentation.defect_map import (
    DefectMap,
    Region,
    RegionOptions,
    measure_region,
    regions,
)
from pipeline.proposals.choices import Finder
from pipeline.proposals.figures import as_logit, outline_figures
from pipeline.types import Boxes, Detections, Image

_COVERED = 0.1  # IoU of boxes from which a detection is the region's
_MOST = 100  # candidates of an image; the likeliest stay
_PREFIXES: dict[Finder, str] = {"sam": "sam_", "detector": "detector_", "anomaly": "anomaly"}
_NO_PIXELS = Patch(0, 0, np.zeros((0, 0), bool))
SAM_AGREES = "sam_agrees"  # the figure that says how much SAM's mask and the region's share


@dataclass(frozen=True)
class Evidence:
    """What the finders say of an image. found: of the segmenter. detections: of the detector; None
    without one. heat: (H, W) of the anomaly model over its threshold; None without one."""

    found: DefectMap
    detections: Detections | None = None
    heat: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Candidate:
    """One place. region_mask: of the segmenter; None where only the detector found it. sam_mask:
    None without a SAM, and where it failed. shares: (C,) how much speaks for each category.
    figures: by name."""

    region_mask: Rle | None
    sam_mask: Rle | None
    shares: NDArray[np.float64]
    figures: dict[str, float]

    @property
    def finder(self) -> str:
        """Who found it; one of `types.FINDERS`."""
        return "detector" if self.region_mask is None else "segmenter"

    @property
    def label(self) -> int:
        """The category for which most speaks."""
        return int(self.shares.argmax())

    def mask(self, refined: bool) -> Rle:
        """The mask of SAM where it is `refined` and SAM has one, else the segmenter's."""
        first, second = (
            (self.sam_mask, self.region_mask) if refined else (self.region_mask, self.sam_mask)
        )
        mask = first if first is not None else second
        assert mask is not None  # a candidate has one
        return mask


def candidates(
    image: Image,
    evidence: Evidence,
    options: RegionOptions,
    sam: PromptedSegmenter | None = None,
) -> list[Candidate]:
    """The candidates of an image (H, W, 3), the likeliest first: the segmenter's regions, then what
    only the detector found."""
    found = evidence.found
    parts = sorted(regions(found, options), key=lambda part: -part.mean)[:_MOST]
    masks: list[Rle | None] = [*encode_patches([part.patch for part in parts], *found.size)]
    boxes = as_boxes([part.patch.box for part in parts])
    if sam is not None:
        alone = _uncovered(evidence.detections, boxes)[: _MOST - len(parts)]
        boxes = as_boxes(np.concatenate([boxes, alone]))
        masks += [None] * len(alone)
    refined, table = _refined(image, boxes, sam, found)
    level = options.level
    rows = []
    for row, (mask, sam_mask) in enumerate(zip(masks, refined, strict=True)):
        drawn = mask or sam_mask
        if drawn is None:
            continue
        own = parts[row] if mask else None
        part = own or measure_region(found, to_patch(drawn))
        figures = {
            **_figures(part, row, evidence, boxes[row]),
            **{name: float(column[row]) for name, column in table.items()},
        }
        outlines = {"map_": part.patch}
        if sam is not None:
            agrees = mask_geometry.paired_iou(mask, sam_mask) if mask and sam_mask else 0.0
            figures[SAM_AGREES] = agrees
            outlines["sam_"] = to_patch(sam_mask) if sam_mask else _NO_PIXELS
        for prefix, patch in outlines.items():
            about = outline_figures(found, patch, own.patch if own else None, level)
            figures |= {prefix + name: value for name, value in about.items()}
        shares = _with_detector(part.shares, evidence.detections, boxes[row])
        rows.append(Candidate(mask, sam_mask, shares, figures))
    return _with_others(rows)


def table_of(rows: Sequence[Candidate]) -> Table:
    """The figures of candidates as named columns (N,)."""
    names = sorted(rows[0].figures) if rows else []
    return {name: np.array([row.figures[name] for row in rows], np.float32) for name in names}


def without(rows: Sequence[Candidate], finder: Finder) -> list[Candidate]:
    """The candidates as they are without a finder: its figures and masks are gone, and so is what
    it alone proposed."""
    prefix = _PREFIXES[finder]
    left = []
    for row in rows:
        figures = {name: v for name, v in row.figures.items() if not name.startswith(prefix)}
        if finder == "anomaly" or row.region_mask is not None:
            sam_mask = None if finder == "sam" else row.sam_mask
            left.append(replace(row, figures=figures, sam_mask=sam_mask))
    return _with_others(left)


def _with_others(rows: Sequence[Candidate]) -> list[Candidate]:
    """The candidates of an image with the figures that follow from how many there are: a defect in
    several parts is many."""
    areas = [float(np.exp(row.figures["area"])) for row in rows]
    count, every = float(np.log(max(len(rows), 1))), max(sum(areas), 1.0)
    return [
        replace(row, figures={**row.figures, "count": count, "share_of_area": area / every})
        for row, area in zip(rows, areas, strict=True)
    ]


def _figures(
    part: Region, rank: int, evidence: Evidence, box: NDArray[np.float32]
) -> dict[str, float]:
    """The figures of one region: of the segmenter's map, and of the other finders in it."""
    figures = {
        "map_mean": as_logit(part.mean),
        "map_peak": as_logit(part.peak),
        "map_edge": part.edge,
        "map_category": as_logit(float(part.shares.max())),
        "area": float(np.log(max(part.patch.area, 1))),
        "rank": float(np.log1p(rank)),
        "compact": _compactness(part),
    }
    if evidence.detections is not None:
        own, other = _scores_on(evidence.detections, box, part.label)
        figures["detector_same"], figures["detector_other"] = as_logit(own), as_logit(other)
    if evidence.heat is not None:
        x0, y0, x1, y1 = part.patch.box
        inside = evidence.heat[y0:y1, x0:x1][part.patch.pixels]
        peak = float(inside.max()) if inside.size else 0.0
        figures["anomaly"] = float(np.log(max(peak, 1e-3)))
    return figures


def _scores_on(detections: Detections, box: NDArray[np.float32], label: int) -> tuple[float, float]:
    """The highest score of a detection on a box, of its category and of others."""
    if not len(detections) or detections.scores is None:
        return 0.0, 0.0
    shared = iou(as_boxes([box.tolist()]), detections.boxes)[0] >= _COVERED
    same = detections.labels == label
    own, other = detections.scores[shared & same], detections.scores[shared & ~same]
    return float(own.max(initial=0.0)), float(other.max(initial=0.0))


def _uncovered(detections: Detections | None, boxes: Boxes) -> Boxes:
    """The boxes of the detections that lie on none of `boxes`, the best of those that overlap."""
    if detections is None or not len(detections) or detections.scores is None:
        return as_boxes([])
    taken = boxes
    for row in np.argsort(-detections.scores, kind="stable").tolist():
        box = detections.boxes[row : row + 1]
        if not (iou(box, taken) >= _COVERED).any():
            taken = as_boxes(np.concatenate([taken, box]))
    return taken[len(boxes) :]


def _refined(
    image: Image, boxes: Boxes, sam: PromptedSegmenter | None, found: DefectMap
) -> tuple[list[Rle | None], Table]:
    """SAM's mask of each box, None where it failed, and its figures (N,)."""
    if sam is None or not len(boxes):
        return [None] * len(boxes), {}
    masks = sam.segment(image, boxes, found.heatmap())
    columns = {f"sam_{name}": values for name, values in masks.quality.items()}
    own = [None if bad else rle for rle, bad in zip(masks.masks, masks.failed, strict=True)]
    inside = [_mean_inside(found, rle) if rle else 0.0 for rle in own]
    columns["sam_on_map"] = np.array([as_logit(value) for value in inside], np.float32)
    return own, columns


def _mean_inside(found: DefectMap, mask: Rle) -> float:
    """The mean probability of a defect in a mask."""
    return measure_region(found, to_patch(mask)).mean


def _with_detector(
    shares: NDArray[np.float64], detections: Detections | None, box: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The shares of the categories, with the scores of the detections on the box added. A detector
    of one category says nothing of them."""
    if detections is None or not len(detections) or detections.scores is None:
        return shares
    shared = iou(as_boxes([box.tolist()]), detections.boxes)[0] >= _COVERED
    if int(detections.labels.max()) >= len(shares):
        return shares
    added = shares.copy()
    np.add.at(added, detections.labels[shared], detections.scores[shared].astype(np.float64))
    return added


def _compactness(part: Region) -> float:
    """The share of its box that a region fills."""
    height, width = part.patch.pixels.shape
    return float(part.patch.area / max(height * width, 1))
