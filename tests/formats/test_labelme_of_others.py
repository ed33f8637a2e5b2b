"""LabelMe's files of versions 3 to 5, of X-AnyLabeling, and of people."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from labelme_of_others import RING, only, place, read, shape

from pipeline.errors import DataError
from pipeline.formats.image_objects import MASK_CLIPPED
from pipeline.geometry.masks import area
from pipeline.io.images import read_image, write_png


def test_a_file_without_shapes_is_an_image_without_objects(tmp_path: Path) -> None:
    dataset, counts = read(tmp_path)
    assert len(only(dataset)) == 0
    assert counts.objects == 0


def test_points_that_are_text_are_read_as_numbers_and_noted(tmp_path: Path) -> None:
    texts = [[str(x), f"{y}.0"] for x, y in RING]
    dataset, counts = read(tmp_path, shape(points=texts), shape(), imageHeight="20", imageWidth=30)
    assert only(dataset).masks == (only(dataset).masks or ())[:1] * 2
    assert counts.notes == ("1 x points with numbers that are text: read as they are meant: "
                            "a.json shapes[0]",)  # fmt: skip


@pytest.mark.parametrize("word", ["two", "nan", "1e999", ""])
def test_points_that_are_no_numbers_are_a_fault(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError, match=r"a\.json: is not a LabelMe file: shapes\[0\]\.points"):
        read(tmp_path, shape(points=[["2", word], *RING[1:]]))


@pytest.mark.parametrize(
    ("given", "pixels", "is_converted"),
    [
        (shape(), 77, False),  # LabelMe 3: no shape_type, no sides of the image
        (shape(shape_type=None), 77, False),
        (shape(shape_type="rotation"), 77, True),
        (shape(points=[[10, 10], [10, 14]], shape_type="circle"), 49, True),  # PIL's radius 4
    ],
)
def test_a_shape_has_the_pixels_that_labelme_draws(
    tmp_path: Path, given: dict[str, Any], pixels: int, is_converted: bool
) -> None:
    dataset, counts = read(tmp_path, given)
    masks = only(dataset).masks
    assert masks is not None
    assert abs(area(masks[0]) - pixels) <= 12 * (given.get("shape_type") == "circle")
    assert (counts.read, len(counts.converted)) == (1 - is_converted, int(is_converted))


@pytest.mark.parametrize("points", [[[2, 2], [12, 8]], [[12, 8], [2, 2]], RING])
def test_rectangles_of_two_and_of_four_points_are_boxes(tmp_path: Path, points: Any) -> None:
    dataset, _ = read(tmp_path, shape(points=points, shape_type="rectangle"))
    assert only(dataset).boxes.tolist() == [[2, 2, 12, 8]]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (shape(shape_type="linestrip"), "linestrip"),
        (shape(points=[[1, 1], [5, 5]], shape_type="line"), "line"),
        (shape(points=[[1, 1]], shape_type="point"), "point"),
        (shape(label=None), "polygon"),
        (shape(points=None), "polygon"),
        (shape(points=[[1, 1], [2, 2]]), "polygon"),
    ],
)
def test_what_has_no_area_or_no_label_is_left_out_and_named(
    tmp_path: Path, given: dict[str, Any], kind: str
) -> None:
    dataset, counts = read(tmp_path, given, shape())
    assert len(only(dataset)) == 1
    assert [(row.kind, row.count) for row in counts.left_out] == [(kind, 1)]
    assert counts.left_out[0].examples == ("a.json shapes[0]",)
    assert dataset.categories == ("crack",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), (True, None), ("x", None), (70, None), (1, 1.0), (0.5, 0.5), ("0.5", 0.5)],
)
def test_a_score_is_a_number_from_0_to_1(
    tmp_path: Path, given: object, expected: float | None
) -> None:
    scores = only(read(tmp_path, shape(score=given))[0]).scores
    assert (None if scores is None else scores.tolist()[0]) == expected


def test_the_type_of_a_shape_may_have_capitals_and_an_unknown_one_is_called_so(
    tmp_path: Path,
) -> None:
    dataset, counts = read(tmp_path, shape(shape_type="Polygon"), shape(shape_type="cuboid"))
    assert len(only(dataset)) == 1
    assert [(row.kind, row.why) for row in counts.left_out] == [("cuboid", "an unknown shape")]


@pytest.mark.parametrize(("x", "pixels", "to"), [(26, 16, []), (27, 12, [MASK_CLIPPED])])
def test_a_mask_over_the_edge_is_counted_as_clipped(
    tmp_path: Path, x: int, pixels: int, to: list[str]
) -> None:
    """4 x 4 pixels on a photo of 30 x 20: from column 27 on, three columns are inside."""
    _, png = cv2.imencode(".png", np.full((4, 4), 255, np.uint8))
    code = base64.b64encode(png.tobytes()).decode()
    given = shape(points=[[x, 2], [x + 3, 5]], shape_type="mask", mask=code)
    dataset, counts = read(tmp_path, given)
    masks = only(dataset).masks
    assert masks is not None
    assert (area(masks[0]), [row.to for row in counts.converted]) == (pixels, to)


def test_a_group_is_one_object_of_each_label(tmp_path: Path) -> None:
    far = [[20, 10], [25, 10], [25, 15], [20, 15]]
    dataset, _ = read(
        tmp_path, shape(group_id=1), shape("stain", group_id=1), shape(points=far, group_id=1)
    )
    objects = only(dataset)
    assert [dataset.categories[label] for label in objects.labels] == ["crack", "stain"]
    assert [area(mask) for mask in objects.masks or ()] == [77 + 36, 77]


def test_a_photo_that_is_gone_is_that_in_image_data(tmp_path: Path) -> None:
    write_png(tmp_path / "b" / "a.png", np.full((20, 30, 3), 7, np.uint8))
    data = base64.b64encode((tmp_path / "b" / "a.png").read_bytes()).decode()
    (tmp_path / "b" / "a.png").unlink()
    dataset, counts = read(tmp_path, shape(), imageData=data)
    assert len(only(dataset)) == 1
    assert read_image(dataset.records[0].path).mean() == 7
    assert "imageData" in counts.notes[0]


def test_a_faulty_file_costs_itself_alone_with_keep_going(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"shapes": 3, "imagePath": "b.png"}')
    with pytest.raises(DataError, match=r"b\.json: is not a LabelMe file"):
        read(tmp_path, shape())
    assert len(only(read(tmp_path, shape(), keep_going=True)[0])) == 1


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", "@eaDir"])
def test_files_in_the_folders_of_systems_are_passed_over(tmp_path: Path, folder: str) -> None:
    place(tmp_path / folder / "a-checkpoint.json", "a.png")
    assert len(only(read(tmp_path, shape())[0])) == 1


DIAMOND = [[15, 4], [21, 10], [15, 16], [9, 10]]  # its box has 12 x 12 pixels, it has half of them


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (shape(points=DIAMOND, shape_type="rectangle"), "turned rectangle"),
        (shape(points=DIAMOND, shape_type="rotation", direction=0.785), "rotation"),
        (shape(points=DIAMOND, shape_type="oriented_rectangle"), "oriented_rectangle"),
        (shape(points=[[10.76, 5.76], [19.24, 14.24]], shape_type="rectangle",
               direction=0.7853981633974483), "turned rectangle"),
    ],
)  # fmt: skip
def test_a_turned_rectangle_is_a_mask_and_never_its_box(
    tmp_path: Path, given: dict[str, Any], kind: str
) -> None:
    """A square of side 8.48 turned by 45 degrees: 72 pixels, and 85 with PIL's outline."""
    dataset, counts = read(tmp_path, given)
    masks = only(dataset).masks
    assert masks is not None
    assert 72 <= area(masks[0]) <= 90
    assert [(row.kind, row.to) for row in counts.converted] == [(kind, "mask")]


def test_a_rectangle_over_the_edge_is_cut_and_one_outside_left_out(tmp_path: Path) -> None:
    over = shape(points=[[-5, 2], [12, 8]], shape_type="rectangle")
    outside = shape(points=[[40, 2], [50, 8]], shape_type="rectangle")
    dataset, counts = read(tmp_path, over, outside)
    assert only(dataset).boxes.tolist() == [[0, 2, 12, 8]]
    assert [row.to for row in counts.converted] == ["box clipped to the image"]
    assert [row.examples for row in counts.left_out] == [("a.json shapes[1]",)]
    assert counts.objects == 2


def test_x_anylabelings_scores_and_difficult_are_kept(tmp_path: Path) -> None:
    box = shape(points=[[2, 2], [12, 8]], shape_type="rectangle", score=0.75, difficult=True)
    scores = only(read(tmp_path, box)[0]).scores
    assert scores is not None
    assert scores.tolist() == [0.75]
    assert only(read(tmp_path, box)[0]).attributes["difficult"].tolist() == [True]
    assert only(read(tmp_path, box | {"score": None})[0]).scores is None


def test_without_image_path_the_photo_has_the_name_of_the_file(tmp_path: Path) -> None:
    assert only(read(tmp_path, shape(), imagePath=None)[0]).boxes.tolist() == [[2, 2, 13, 9]]


def test_a_polygon_over_the_edge_is_clipped_and_counted(tmp_path: Path) -> None:
    over = shape(points=[[-5, 2], [12, 2], [12, 8], [-5, 8]], shape_type="polygon")
    dataset, counts = read(tmp_path, over)
    assert only(dataset).boxes[0, 0] == 0
    assert [row.to for row in counts.converted] == ["polygon clipped to the image"]
    assert (counts.objects, counts.read) == (1, 0)
