"""Rows of YOLO label files that other tools write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from yolo_of_others import ROW, read, written

from pipeline.errors import DataError
from pipeline.formats.source import SourceCounts
from pipeline.geometry.masks import area
from pipeline.types import Dataset


def one(tmp_path: Path, rows: str) -> tuple[Dataset, SourceCounts]:
    return read(
        written(tmp_path, **{"classes.txt": "a\nb\n", "images/a.png": "", "labels/a.txt": rows})
    )


@pytest.mark.parametrize("row", ["0 1 1 3 2\n", "0 25 20 60 50\n", "0 -1.1 0.5 0.2 0.2\n"])
def test_a_box_in_pixels_is_refused_and_not_clipped_to_the_photo(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match="row 1 has numbers far outside 0 to 1: they may be pixels"):
        one(tmp_path, row)


def test_a_confidence_behind_each_row_is_its_score(tmp_path: Path) -> None:
    dataset, _ = one(tmp_path, "1 0.5 0.5 0.2 0.4 0.75\n")
    scores = dataset.on(dataset.records[0]).scores
    assert scores is not None
    assert scores.tolist() == [0.75]


def test_a_track_behind_a_row_is_left_out_and_reported(tmp_path: Path) -> None:
    dataset, counts = one(tmp_path, "1 0.5 0.5 0.2 0.4 17\n")
    assert dataset.on(dataset.records[0]).scores is None
    assert "track" in counts.notes[0]


def test_a_box_among_polygons_is_counted_as_a_polygon(tmp_path: Path) -> None:
    _, counts = one(tmp_path, ROW + "0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    assert [(row.kind, row.count) for row in counts.converted] == [("box among polygons", 1)]
    assert (counts.objects, counts.read) == (2, 1)


@pytest.mark.parametrize(
    ("row", "score"),
    [
        ("1 0.5 0.5 0.2 0.4 0.75 12", [0.75]),  # ultralytics: confidence, then track
        ("1 0.5 0.5 0.2 0.4 0.75 1", [0.75]),
        ("1 0.5 0.5 0.2 0.4 0.2 0.3 2 0.4 0.5 1 0.1 0.1 0", None),  # three keypoints
    ],
)
def test_what_stands_behind_a_box_makes_no_polygon(
    tmp_path: Path, row: str, score: list[float] | None
) -> None:
    dataset, counts = one(tmp_path, f"{row}\n")
    objects = dataset.on(dataset.records[0])
    np.testing.assert_allclose(objects.boxes, [[12, 6, 18, 14]], atol=1e-4)
    assert objects.masks is None
    assert (None if objects.scores is None else objects.scores.tolist()) == score
    assert counts.objects == 1


def test_a_triangle_beside_a_polygon_may_end_at_the_edge_of_the_image(tmp_path: Path) -> None:
    """The 1 at the end is y of the third corner: the other row shows that the file has polygons."""
    triangle = "1 0.5 0.5 0.2 0.4 0.75 1"
    dataset, counts = one(tmp_path, f"{triangle}\n1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n")
    objects = dataset.on(dataset.records[0])
    assert objects.masks is not None
    assert objects.boxes[0, 3] >= 19  # the lower edge of the image is 20; the corner is sharp
    assert counts.read == 2


def test_the_keypoints_of_a_pose_are_left_out_and_reported(tmp_path: Path) -> None:
    """kpt_shape [1, 2]: four numbers of the box and two of the keypoint."""
    files = {"data.yaml": "train: images\nkpt_shape: [1, 2]\nnames: [a, b]\n",
             "images/a.png": "", "labels/a.txt": "1 0.5 0.5 0.2 0.4 0.5 0.6\n"}  # fmt: skip
    dataset, counts = read(written(tmp_path, **files))
    np.testing.assert_allclose(dataset.on(dataset.records[0]).boxes, [[12, 6, 18, 14]], atol=1e-4)
    assert [(row.kind, row.to) for row in counts.converted] == [
        ("pose", "box; its keypoints are left out")
    ]


def test_four_corners_are_a_polygon(tmp_path: Path) -> None:
    """A diamond on 30 x 20 pixels: half of its box of 12 x 8."""
    dataset, _ = one(tmp_path, "0 0.5 0.3 0.7 0.5 0.5 0.7 0.3 0.5\n")
    masks = dataset.on(dataset.records[0]).masks
    assert masks is not None
    assert 48 <= area(masks[0]) <= 70


@pytest.mark.parametrize(
    ("rows", "left"),
    [
        ("0 0.95 0.5 0.2 0.4\n0 1.5 1.5 0.2 0.2\n0 0.5 0.5 0 0.1\n", "has no area inside"),
        ("0 0.85 0.3 1.2 0.3 1.2 0.7 0.85 0.7\n0 1.1 1.1 1.3 1.1 1.3 1.3\n"
         "0 -0.5 0.1 -0.3 0.1 -0.3 0.3\n", "covers no pixel"),
    ],
)  # fmt: skip
def test_what_is_not_on_the_image_is_left_out(tmp_path: Path, rows: str, left: str) -> None:
    """Each first row goes on to the right edge, at 30 pixels."""
    dataset, counts = one(tmp_path, rows)
    assert dataset.on(dataset.records[0]).boxes[:, 2].tolist() == [30]
    assert [row.count for row in counts.left_out] == [2]
    assert left in counts.left_out[0].why
    assert counts.left_out[0].examples[0] == "a.txt row 2"
    assert counts.objects == 3
