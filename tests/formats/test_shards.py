"""Sets in several files: as one to every reader, and back to the bytes of the one file."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from review_sessions import draw_labels, session
from round_trips import dataset_of

from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.formats.coco_stream import coco_writer
from pipeline.formats.parquet import shard_parquet, write_parquet
from pipeline.formats.shards import merge_shards, shard_coco
from pipeline.geometry import masks as mask_geometry
from pipeline.io.read import sha256_of
from pipeline.review.export import is_stale
from pipeline.review.source import labels_of, session_of
from pipeline.review.store import ReviewStore
from pipeline.stages.evaluate import evaluate
from pipeline.stages.stats import stats
from pipeline.stages.validate import validate
from pipeline.types import Dataset, Detections, ImageRecord

CATEGORIES = ("crack", "Öl")


def set_of(images: int, prompts: bool = False) -> Dataset:
    """Images that have 0, 1, 2, 0, 1, 2 ... objects, with ids that do not ascend."""
    records = tuple(
        ImageRecord(100 - number, Path(f"{number}.png"), f"part/ü {number}.png", 8, 9, split="val")
        for number in range(images)
    )
    block = np.zeros((8, 9), bool)
    block[2:4, 3:6] = True
    objects = {}
    for number, record in enumerate(records):
        found = Detections.from_masks([mask_geometry.encode(block)] * (number % 3), number % 2)
        ids = np.arange(len(found)) * 50 + 50 - number  # those of other images lie between
        objects[record.id] = replace(found, prompt_ids=ids) if prompts else found
    return Dataset(CATEGORIES, records, objects)


def sharded(folder: Path, dataset: Dataset, count: int) -> tuple[bytes, Path]:
    """The bytes of the one file, and the index of its shards."""
    folder.mkdir(exist_ok=True)
    write_coco(folder / "set.json", dataset)
    before = (folder / "set.json").read_bytes()
    return before, shard_coco(folder / "set.json", count)


def shards_of(index: Path) -> list[dict[str, Any]]:
    """The content of each shard of JSON."""
    listed = json.loads(index.read_text())["shards"]
    return [json.loads(index.with_name(name).read_text()) for each in listed
            for name in each["files"]]  # fmt: skip


@pytest.mark.parametrize("prompts", [False, True])
@pytest.mark.parametrize(("images", "count"), [(0, 1), (0, 3), (1, 1), (2, 5), (7, 1), (7, 3)])
def test_merged_shards_are_the_bytes_of_the_one_file(
    tmp_path: Path, images: int, count: int, prompts: bool
) -> None:
    before, index = sharded(tmp_path, set_of(images, prompts), count)
    assert index == tmp_path / "set.index.json"
    names = [f"set-{shard:05d}-of-{count:05d}.json" for shard in range(count)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "set.index.json"]
    merge_shards(index, tmp_path / "merged.json")
    assert (tmp_path / "merged.json").read_bytes() == before
    listed = json.loads(index.read_text())
    assert (listed["images"], listed["categories"]) == (images, ["crack", "Öl"])
    assert [shard["images"] for shard in listed["shards"]] == [
        images * (shard + 1) // count - images * shard // count for shard in range(count)
    ]


@pytest.mark.parametrize("prompts", [False, True])
def test_each_shard_is_a_coco_file_and_ids_are_unique_over_all(
    tmp_path: Path, prompts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = set_of(8, prompts)
    _, index = sharded(tmp_path, dataset, 3)
    for name in (path.name for path in tmp_path.glob("set-*")):
        coco = COCO(str(tmp_path / name))
        assert {row["image_id"] for row in coco.anns.values()} <= set(coco.imgs)
        assert [row["id"] for row in coco.dataset["annotations"]] == sorted(coco.anns)
    parts = shards_of(index)
    ids = [row["id"] for part in parts for row in part["annotations"]]
    assert sorted(ids) == list(range(1, 8))
    images = [row["id"] for part in parts for row in part["images"]]
    assert images == [record.id for record in dataset.records]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(mask=strategies.masks, count=st.integers(1, 4))
def test_shards_are_read_as_one(
    tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray, count: int
) -> None:
    folder = tmp_path_factory.mktemp("set")
    before, index = sharded(folder / "out", dataset_of(folder, mask), count)
    write_coco(folder / "back.json", read_coco(index))
    assert (folder / "back.json").read_bytes() == before


@pytest.mark.parametrize("count", [1, 3])
def test_tables_in_shards_merge_to_the_coco_file(tmp_path: Path, count: int) -> None:
    dataset = set_of(7, prompts=True)
    before, _ = sharded(tmp_path / "coco", dataset, count)
    write_parquet(tmp_path, dataset)
    shard_parquet(tmp_path, count)
    marks = [f"-{shard:05d}-of-{count:05d}.parquet" for shard in range(count)]
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [
        *(f"annotations{mark}" for mark in marks), *(f"images{mark}" for mark in marks),
        "instances.index.json",
    ]  # fmt: skip
    index = tmp_path / "instances.index.json"
    merge_shards(index, tmp_path / "merged.json")
    assert (tmp_path / "merged.json").read_bytes() == before
    write_coco(tmp_path / "back.json", read_coco(index))
    assert (tmp_path / "back.json").read_bytes() == before


def test_every_command_that_reads_coco_reads_the_index(tmp_path: Path) -> None:
    _, index = sharded(tmp_path, set_of(7), 3)
    assert evaluate(index, index).matched == 6
    assert validate([index]).faults == 0
    assert stats(index).images == 7
    target = tmp_path / "export" / "annotations" / "instances.index.json"
    target.parent.mkdir(parents=True)
    shutil.copy(index, target)
    assert labels_of(tmp_path / "export") == target
    assert labels_of(session_of(target)) == target


def test_a_coco_file_may_have_the_name_of_an_index(tmp_path: Path) -> None:
    write_coco(tmp_path / "set.index.json", set_of(3))
    assert len(read_coco(tmp_path / "set.index.json").records) == 3


def test_a_review_of_shards_is_kept_beside_the_index(tmp_path: Path) -> None:
    index = shard_coco(draw_labels(tmp_path), 2)
    assert session(index) == tmp_path / "instances.index.review"
    with ReviewStore(session(index)) as store:
        assert not is_stale(store, index)
        ((count,),) = store.rows("SELECT count(*) FROM objects")
    assert count == 4


def test_validate_names_faults_of_shards_and_fixes_none(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    write_coco(path, set_of(4))
    content = json.loads(path.read_text())
    content["annotations"][1]["area"] = -7
    path.write_text(json.dumps(content))
    plain = validate([path])
    index = shard_coco(path, 2)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    found = validate([index], fix=True)
    assert (found.faults, found.fixed, len(found.left)) == (plain.faults, 0, plain.faults)
    assert found.faults > 0
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_memory_for_dividing_and_merging_hardly_grows_with_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids and places of images and objects are kept, and nothing else; a set in memory takes 2 kB
    an image."""
    monkeypatch.setattr("pipeline.formats.json_window._WINDOW", 1 << 13)  # far less than the file

    def peak(images: int) -> int:
        folder = tmp_path / str(images)
        folder.mkdir()
        with coco_writer(folder / "set.json", CATEGORIES) as writer:
            for number in range(1, images + 1):
                image = f'{{"file_name": "{number}.png", "height": 8, "id": {number}, "width": 9}}'
                writer.add_image(image)
                row = f'"bbox": [1, 1, 2, 2], "category_id": 1, "image_id": {number}'
                writer.add_rows([f"{{{row}}}"])
        tracemalloc.start()
        merge_shards(shard_coco(folder / "set.json", 4), folder / "merged.json")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    large, small = peak(6_000), peak(3_000)
    assert large - small < 3_000 * 400


def test_a_file_is_not_divided_into_no_shard(tmp_path: Path) -> None:
    write_coco(tmp_path / "set.json", set_of(3))
    with pytest.raises(ConfigError, match="shards: 0 is below 1; give the number of files"):
        shard_coco(tmp_path / "set.json", 0)
    assert [each.name for each in tmp_path.iterdir()] == ["set.json"]


@pytest.mark.parametrize("change", ["missing", "changed"])
def test_a_shard_that_is_missing_or_changed_is_one_line(tmp_path: Path, change: str) -> None:
    _, index = sharded(tmp_path, set_of(7), 3)
    shard = tmp_path / "set-00001-of-00003.json"
    if change == "missing":
        shard.unlink()
        message = "set-00001-of-00003.json: is missing, and set.index.json lists it; copy it there"
    else:
        shard.write_bytes(shard.read_bytes() + b"\n")
        message = "00003.json: is not the file that set.index.json lists: its sha256 is another"
    for read in (read_coco, lambda path: merge_shards(path, tmp_path / "merged.json")):
        with pytest.raises(DataError, match=message) as error:
            read(index)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "merged.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": []}, "shards: list should have at least 1 item"),
        ({"kind": "other"}, "kind: input should be 'shards'"),
        ({"more": 1}, "more: extra inputs"),
        ({"shards": [{"images": 1, "annotations": 0, "files": {"../a.json": "0"}}]},
         r"names '\.\./a\.json', which is no shard; export it again"),
        ({"shards": [{"images": 1, "annotations": 0, "files": {"set.index.json": "0"}}]},
         r"names 'set\.index\.json', which is no shard"),
    ],
)  # fmt: skip
def test_an_index_of_other_content_is_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    _, index = sharded(tmp_path, set_of(2), 1)
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        read_coco(index)


def test_a_shard_without_a_list_is_named(tmp_path: Path) -> None:
    _, index = sharded(tmp_path, set_of(4), 2)
    path = tmp_path / "set-00001-of-00002.json"
    path.write_text('{"images": [], "categories": []}')
    content = json.loads(index.read_text())
    content["shards"][1]["files"] = {path.name: sha256_of(path)}
    index.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"00002\.json: has no list annotations, and"):
        read_coco(index)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("id", "x", "has an entry without a whole number as id"),
        ("image_id", None, "has an entry without a whole number as image_id"),
        ("image_id", 5, "has an annotation of image 5, which it does not list"),
        ("image_id", 2**40, "has an annotation of image 1099511627776, which it does not list"),
    ],
)
def test_a_file_without_usable_ids_is_not_divided(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    path = tmp_path / "set.json"
    write_coco(path, set_of(3))
    content = json.loads(path.read_text())
    content["annotations"][0][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        shard_coco(path, 2)
    assert [each.name for each in tmp_path.iterdir()] == ["set.json"]
