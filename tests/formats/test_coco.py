from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import DataError
from pipeline.formats.coco import read_coco, write_coco, write_coco_results
from pipeline.formats.coco_stream import RowSpool
from pipeline.geometry import masks as mask_geometry
from pipeline.io.write import write_json
from pipeline.types import Dataset, Detections, ImageRecord

RECORD = ImageRecord(7, Path("a.png"), "a.png", height=12, width=16)


def dataset_of(mask: np.ndarray) -> Dataset:
    rles, _ = mask_geometry.instances(mask)
    return Dataset(("crack",), (RECORD,), {7: Detections.from_masks(rles, 0)})


def written(folder: Path, dataset: Dataset) -> dict[str, Any]:
    write_coco(folder / "x.json", dataset)
    raw: dict[str, Any] = json.loads((folder / "x.json").read_text())
    return raw


def read_rows(
    folder: Path, rows: Sequence[Mapping[str, object]], category_id: int = 1
) -> Detections:
    """The objects of a file with these annotations of `RECORD`, all of one category."""
    raw = {
        "images": [{"id": 7, "file_name": "a.png", "height": 12, "width": 16}],
        "categories": [{"id": category_id, "name": "crack"}],
        "annotations": rows,
    }
    (folder / "x.json").write_text(json.dumps(raw))
    return read_coco(folder / "x.json").on(RECORD)


def test_an_image_without_objects_stays_listed(tmp_path: Path) -> None:
    raw = written(tmp_path, Dataset(("crack",), (RECORD,)))
    assert raw["annotations"] == []
    assert raw["images"] == [
        {"id": 7, "file_name": "a.png", "height": 12, "width": 16, "defect": "good"}
    ]


def test_ids_count_from_1_and_nothing_is_a_crowd(tmp_path: Path) -> None:
    mask = np.zeros((12, 16), bool)
    mask[2:5, 3:9] = mask[8, 1] = True
    raw = written(tmp_path, dataset_of(mask))
    assert [row["id"] for row in raw["annotations"]] == [1, 2]
    assert [row["category_id"] for row in raw["annotations"]] == [1, 1]
    assert {row["iscrowd"] for row in raw["annotations"]} == {0}
    assert raw["annotations"][0]["bbox"] == [3, 2, 6, 3]  # x, y, width, height
    assert raw["annotations"][0]["area"] == 18


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(mask=arrays(np.bool_, st.just((12, 16))))
def test_what_is_written_is_read_back_to_the_pixel(tmp_path: Path, mask: np.ndarray) -> None:
    dataset = dataset_of(mask)
    write_coco(tmp_path / "x.json", dataset)
    returned = read_coco(tmp_path / "x.json")
    assert returned.categories == dataset.categories
    found, expected = returned.on(RECORD), dataset.on(RECORD)
    assert found.masks == expected.masks or (not found.masks and not expected.masks)
    assert np.array_equal(found.boxes, expected.boxes)


def test_polygons_and_uncompressed_rle_are_read_as_pycocotools_reads_them(tmp_path: Path) -> None:
    square = [2, 2, 6, 2, 6, 5, 2, 5]  # pixel edges: 4 x 3 pixels
    runs = {"size": [12, 16], "counts": [5, 2, 185]}  # column-major: rows 5 and 6 of column 0
    rows = [
        {"id": i + 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1], "segmentation": s}
        for i, s in enumerate(([square], runs))
    ]
    found = read_rows(tmp_path, rows, category_id=3)
    assert found.masks is not None
    assert [mask_geometry.area(rle) for rle in found.masks] == [12, 2]
    assert found.labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("[]", "not COCO instances JSON"),
        (
            '{"images": [], "annotations": [{}], "categories": []}',
            "annotation number 1 image_id: is missing",
        ),
        (
            '{"images": [], "categories": [], '
            '"annotations": [{"id": 9, "image_id": 4, "category_id": 1, "bbox": [1, 1, 2, 2]}]}',
            "annotation 9 names image 4",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}], '
            '"categories": [{"id": 1, "name": "x"}], "annotations": '
            '[{"id": 9, "image_id": 1, "category_id": 1, "bbox": [NaN, 5, 3, 3]}]}',
            r"annotation 9 bbox\[0\]: .*, got nan; correct it: pipeline validate --fix",
        ),
    ],
)
def test_a_bad_file_is_one_line_with_its_path(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(DataError, match=f"bad.json.*{message}"):
        read_coco(path)


def test_whole_paths_below_the_folder_of_images_are_names_in_it(tmp_path: Path) -> None:
    images = tmp_path / "images"
    entry = {"id": 1, "file_name": str(images / "a" / "b.png"), "height": 9, "width": 9}
    write_json(tmp_path / "c.json", {"images": [entry], "annotations": [], "categories": []})
    (record,) = read_coco(tmp_path / "c.json", images).records
    assert (record.file_name, record.path) == ("a/b.png", images / "a" / "b.png")
    with pytest.raises(DataError, match="leaves its folder"):
        read_coco(tmp_path / "c.json", tmp_path / "elsewhere")


def test_results_are_what_load_res_reads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    mask = np.zeros((12, 16), bool)
    mask[2:5, 3:9] = True
    truth = dataset_of(mask)
    scored = Detections(
        truth.on(RECORD).boxes,
        truth.on(RECORD).labels,
        scores=np.array([0.5], np.float32),
        masks=truth.on(RECORD).masks,
    )
    write_coco(tmp_path / "truth.json", truth)
    write_coco_results(tmp_path / "results.json", Dataset(("crack",), (RECORD,), {7: scored}))
    loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "results.json"))
    assert loaded.annToMask(loaded.anns[1]).sum() == 18
    assert loaded.anns[1]["score"] == 0.5


def test_columns_survive_the_round_trip(tmp_path: Path) -> None:
    mask = np.zeros((12, 16), bool)
    mask[2:5, 3:9] = True
    plain = dataset_of(mask).on(RECORD)
    rich = Detections(
        plain.boxes,
        plain.labels,
        masks=plain.masks,
        quality={"stability": np.array([0.25], np.float32)},
        failed=np.array([True]),
        prompt_ids=np.array([7]),
        prompt_boxes=np.array([[1, 2.5, 9, 8]], np.float32),
        attributes={"track": np.array([90000001])},
    )
    write_coco(tmp_path / "x.json", Dataset(("crack",), (RECORD,), {7: rich}))
    found = read_coco(tmp_path / "x.json").on(RECORD)
    assert {name: column.tolist() for name, column in found.quality.items()} == {
        "stability": [0.25]
    }
    assert {name: column.tolist() for name, column in found.attributes.items()} == {
        "track": [90000001]
    }
    for column, expected in (
        (found.failed, [True]), (found.ids, [1]), (found.prompt_ids, [7]),
        (found.prompt_boxes, [[1, 2.5, 9, 8]]),
    ):  # fmt: skip
        assert column is not None
        assert column.tolist() == expected


@pytest.mark.parametrize(
    ("values", "finders"),
    [
        ([], None),
        ([None, None], None),
        (["my tool", 3], None),
        (["segmenter", "detector"], ("segmenter", "detector")),
        ([None, "person"], ("", "person")),
        (["my tool", "anomaly"], ("", "anomaly")),
    ],
)
def test_who_found_an_object_survives_and_other_names_are_not_known(
    tmp_path: Path, values: list[object], finders: tuple[str, ...] | None
) -> None:
    rows = [
        {"id": number, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "finder": value}
        for number, value in enumerate(values, start=1)
    ]
    found = read_rows(tmp_path, rows)
    assert found.finders == finders
    again = written(tmp_path, Dataset(("crack",), (RECORD,), {7: found}))["annotations"]
    assert [row.get("finder", "") for row in again] == list(finders or [""] * len(values))
    turned = found.select(list(range(len(values)))[::-1]).finders
    assert turned == (finders and finders[::-1])


def test_numbers_of_a_foreign_file_are_quality_only_from_0_to_1(tmp_path: Path) -> None:
    rows = [
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "rating": rating,
         "logit": -1.5, "prompt_id": 2.5, "failed": 0, "visible": True, "at": [1, 2], "note": "x"}
        for rating in (0, 0.5)
    ]  # fmt: skip
    found = read_rows(tmp_path, rows)
    assert sorted(found.quality) == ["failed", "rating"]  # a `failed` of numbers is not ours
    assert sorted(found.attributes) == ["at", "logit", "prompt_id", "visible"]
    assert (found.failed, found.prompt_ids, found.prompt_boxes) == (None, None, None)
    again = written(tmp_path, Dataset(("crack",), (RECORD,), {7: found}))["annotations"]
    kept = ("rating", "logit", "prompt_id", "failed", "visible", "at")
    assert [[row[key] for key in kept] for row in again] == [
        [row[key] for key in kept] for row in rows
    ]


def test_rows_are_in_the_order_of_their_prompts(tmp_path: Path) -> None:
    def prompted(image: int, prompt: int) -> tuple[ImageRecord, Detections]:
        record = ImageRecord(image, Path(f"{image}"), f"{image}", height=12, width=16)
        boxes = np.array([[prompt, 0, prompt + 1, 1]], np.float32)
        ids = np.array([prompt])
        return record, Detections(boxes, np.zeros(1, np.int64), prompt_ids=ids)

    images = [prompted(1, 5), prompted(2, 3)]  # the file of prompts had image 2's box first
    objects = {record.id: found for record, found in images}
    raw = written(tmp_path, Dataset(("crack",), tuple(record for record, _ in images), objects))
    assert [(row["id"], row["prompt_id"]) for row in raw["annotations"]] == [(1, 3), (2, 5)]


def test_rows_that_wait_for_their_place_are_on_disk(tmp_path: Path) -> None:
    texts = ["", "a", "\u00d6l", "\udc80", "b" * 70_000]
    with RowSpool(tmp_path) as spool:
        spool.add(texts[:2])
        spool.add(texts[2:])
        assert [spool.text(number) for number in (4, 0, 3, 2, 1)] == [
            texts[number] for number in (4, 0, 3, 2, 1)
        ]
    assert list(tmp_path.iterdir()) == []
