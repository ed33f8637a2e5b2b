"""COCO as Parquet: read by pyarrow and pandas, and back to the bytes of the COCO file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from round_trips import CATEGORIES, dataset_of

from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.formats.parquet import write_parquet
from pipeline.formats.registry import FORMATS
from pipeline.geometry.boxes import as_boxes
from pipeline.review.source import labels_of, session_of
from pipeline.stages.evaluate import evaluate
from pipeline.stages.stats import stats
from pipeline.stages.validate import validate
from pipeline.types import Dataset, Detections, ImageRecord

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def coco_bytes(folder: Path, dataset: Dataset) -> bytes:
    folder.mkdir(exist_ok=True)
    write_coco(folder / "coco.json", dataset)
    return (folder / "coco.json").read_bytes()


def tables(folder: Path, dataset: Dataset) -> Path:
    """The images of the tables, written into a new folder."""
    folder.mkdir()
    write_parquet(folder, dataset)
    return folder / "images.parquet"


def rated(plain: Dataset) -> Dataset:
    """Every column that an object may have; the second image has others than the first."""
    first = plain.objects[1]
    count = len(first)
    share = np.linspace(0, 1, count, dtype=np.float32)
    objects = {**plain.objects, 1: replace(
        first, scores=share, quality={"expected_iou": share, "stability": share[::-1]},
        failed=np.arange(count) % 2 == 0, prompt_ids=np.arange(count)[::-1] + 1,
        prompt_boxes=as_boxes(np.tile([0.5, 1, 3, 4], (count, 1))),
        finders=("person", "") * (count // 2) + ("detector",) * (count % 2),
        attributes={"category": np.full(count, 7), "other": np.full((count, 2), 1.5, np.float32)},
    )}  # fmt: skip
    return replace(plain, objects=objects)


@pytest.mark.parametrize("categories", [(), ("crack",), ("crack", "Öl & \\")])
def test_a_set_without_images_keeps_its_categories(
    tmp_path: Path, categories: tuple[str, ...]
) -> None:
    dataset = Dataset(categories, ())
    back = read_coco(tables(tmp_path / "out", dataset))
    assert (back.categories, back.records) == (categories, ())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(mask=strategies.masks, other=strategies.masks, has_columns=st.booleans())
def test_what_comes_back_gives_the_bytes_of_the_coco_file(
    tmp_path_factory: pytest.TempPathFactory,
    mask: np.ndarray,
    other: np.ndarray,
    has_columns: bool,
) -> None:
    folder = tmp_path_factory.mktemp("set")
    dataset = dataset_of(folder, mask, other)
    if has_columns and len(dataset.objects[1]):
        dataset = rated(dataset)
    before = coco_bytes(folder / "coco", dataset)
    back = read_coco(tables(folder / "out", dataset))
    assert coco_bytes(folder / "back", back) == before
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "annotations.parquet", "images.parquet",
    ]  # fmt: skip


def test_pandas_reads_a_row_for_each_object_with_a_mask_for_pycocotools(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    mask = np.zeros((8, 12), bool)
    mask[1:4, 1:4] = mask[5:8, 8:12] = True
    path = tables(tmp_path / "out", rated(dataset_of(tmp_path, mask)))
    images = pandas.read_parquet(path)
    objects = pandas.read_parquet(path.with_name("annotations.parquet"))
    assert images["file_name"].tolist() == ["train/image 1.png", "val/image 2.png"]
    joined = objects.merge(images, left_on="image_id", right_on="id")
    assert joined["split"].tolist() == ["train", "train"]
    assert objects["category"].tolist() == ["stain & dirt", "crack"]  # in the order of prompts
    assert objects["score"].tolist() == [1.0, 0.0]
    assert objects["area"].tolist() == [12.0, 9.0]
    drawn = [coco_mask.decode({**rle, "size": [*rle["size"]]}) for rle in objects["segmentation"]]
    assert np.array_equal(drawn[0] | drawn[1], mask)
    assert json.loads(objects["other"][0]) == {"category": 7, "other": [1.5, 1.5], "stability": 0}


def test_files_that_pandas_wrote_again_are_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    mask = np.zeros((8, 12), bool)
    mask[1:4, 1:4] = mask[5:8, 8:12] = True
    dataset = rated(dataset_of(tmp_path, mask))
    path = tables(tmp_path / "out", dataset)
    for each in (path, path.with_name("annotations.parquet")):
        pandas.read_parquet(each).to_parquet(each)
    back = read_coco(path)
    assert back.categories == CATEGORIES[:2]  # those that an object has
    again = replace(back, categories=CATEGORIES)
    assert coco_bytes(tmp_path / "back", again) == coco_bytes(tmp_path / "coco", dataset)


def test_row_groups_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.formats.parquet_rows._GROUP", 4)
    records = tuple(ImageRecord(n, Path(f"{n}"), f"{n}.png", 4, 5) for n in range(1, 11))
    path = tables(tmp_path / "out", Dataset((), records))
    data = parquet.ParquetFile(path).metadata
    assert [data.row_group(k).num_rows for k in range(data.num_row_groups)] == [4, 4, 2]
    assert read_coco(path).records[-1].id == 10


def test_boxes_without_masks_have_no_segmentation(tmp_path: Path) -> None:
    record = ImageRecord(1, Path("a"), "a.png", 40, 50)
    objects = Detections(as_boxes([[1, 2, 3.5, 4]]), np.array([0]))
    path = tables(tmp_path / "out", Dataset(("crack",), (record,), {1: objects}))
    (row,) = parquet.read_table(path.with_name("annotations.parquet")).to_pylist()
    assert (row["segmentation"], row["bbox"]) == (None, [1, 2, 2.5, 2])
    assert read_coco(path).objects[1].masks is None


def test_every_command_that_reads_coco_reads_the_tables(tmp_path: Path) -> None:
    mask = np.zeros((8, 12), bool)
    mask[1:4, 1:4] = True
    dataset = dataset_of(tmp_path, mask)
    path = tables(tmp_path / "out", dataset)
    assert evaluate(path, path).matched == 1
    assert validate([path]).faults == 0
    assert stats(path).images == 2
    read = FORMATS["coco"].read(path.parent, None)
    assert coco_bytes(tmp_path / "back", read) == coco_bytes(tmp_path / "coco", dataset)
    objects = path.with_name("annotations.parquet")
    assert labels_of(path.parent) == labels_of(session_of(objects)) == objects


def test_validate_fixes_no_table(tmp_path: Path) -> None:
    path = tables(tmp_path / "out", Dataset(("a",), (ImageRecord(1, Path("a"), "a.png", 4, 5),)))
    table = parquet.read_table(path)
    parquet.write_table(table.set_column(0, "id", pa.array([None], pa.int64())), path)
    before = path.read_bytes()
    found = validate([path], fix=True)
    assert (found.faults, found.fixed, len(found.left), found.originals) == (1, 0, 1, ())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("images.parquet", b"", "images.parquet: is not readable Parquet"),
        ("images.parquet", b"PAR1 and more text PAR1", "is not readable Parquet"),
        ("annotations.parquet", None, "annotations.parquet: no such file"),
        ("x.parquet", b"", "is neither images.parquet nor annotations.parquet"),
    ],
)
def test_a_bad_file_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    folder = tables(tmp_path / "out", Dataset(("a",), ())).parent
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_coco(folder / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("id", pa.array(["x" * 3]), None),
        ("file_name", pa.array([None], pa.string()), "file_name: is missing"),
        ("height", pa.array([-5]), "height"),
        ("other", pa.array(["[1]"]), "row 1: `other` is no JSON object; export it again"),
        ("other", pa.array(["{"]), "holds what is not JSON"),
        ("other", pa.array([1.5]), "holds what is not JSON"),
    ],
)
def test_values_are_checked_as_those_of_json(
    tmp_path: Path, column: str, values: Any, message: str | None
) -> None:
    path = tables(tmp_path / "out", Dataset(("a",), (ImageRecord(1, Path("a"), "a.png", 4, 5),)))
    table = parquet.read_table(path)
    place = table.schema.names.index(column)
    parquet.write_table(table.set_column(place, column, values), path)
    if message is None:
        assert read_coco(path).records[0].id == 1  # an id that is a text
        return
    with pytest.raises(DataError, match=message):
        read_coco(path)


def test_without_pyarrow_the_command_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[parquet\]", or write coco'):
        FORMATS["parquet"].write(tmp_path / "out", Dataset((), ()), False, 0.0)
