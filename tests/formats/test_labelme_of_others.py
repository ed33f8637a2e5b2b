"""LabelMe's files of versions 3 to 5, of X-AnyLabeling, and of people."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError, Faults
from pipeline.formats.labelme_reader import read_labelme
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.geometry.masks import area
from pipeline.io.images import read_image, write_png
from pipeline.types import Dataset, Detections

RING = [[2, 2], [12, 2], [12, 8], [2, 8]]  # PIL draws both ends: 11 x 7 pixels


def shape(label: str | None = "crack", points: Any = RING, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, **more}


def read(
    root: Path, *shapes: dict[str, Any], keep_going: bool = False, **more: Any
) -> tuple[Dataset, SourceCounts]:
    if not (root / "a.png").exists() and "imageData" not in more:
        write_png(root / "a.png", np.zeros((20, 30, 3), np.uint8))
    content = {"shapes": list(shapes), "imagePath": "a.png", **more}
    (root / "a.json").write_text(json.dumps(content))
    log = SourceLog(Faults(keep_going))
    dataset = read_labelme(root, None, log)
    return dataset, log.counts(dataset)


def only(dataset: Dataset) -> Detections:
    (record,) = dataset.records
    assert record.size == (20, 30)
    return dataset.on(record)


def test_a_file_without_shapes_is_an_image_without_objects(tmp_path: Path) -> None:
    dataset, counts = read(tmp_path)
    assert len(only(dataset)) == 0
    assert counts.objects == 0


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
