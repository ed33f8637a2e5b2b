"""Which photo an image of a foreign COCO file means."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_of_others import annotation, only, plain, read

from pipeline.errors import Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.source import SourceLog
from pipeline.io.images import write_png
from pipeline.types import Dataset


def test_an_image_that_is_listed_twice_has_the_objects_of_both(tmp_path: Path) -> None:
    raw = plain()
    raw["images"].append({**raw["images"][0], "id": 2})
    raw["annotations"].append({**raw["annotations"][0], "id": 2, "image_id": 2})
    dataset, counts = read(tmp_path, raw)
    assert len(only(dataset)) == 2
    assert "listed twice" in counts.notes[0]


def test_without_a_file_name_the_url_names_the_photo(tmp_path: Path) -> None:
    raw = plain()
    del raw["images"][0]["file_name"]
    raw["images"][0]["coco_url"] = "http://images.cocodataset.org/val2017/a.png"
    assert read(tmp_path, raw)[0].records[0].file_name == "a.png"


SAME = [("a/1.png", "a\\1.png"), ("a/1.png", "./a//1.png")]


OTHERS = [("a/1.png", "b/1.png"), ("a/1.png", "1.png"), ("a/1.png", "A/1.PNG"),
          ("a/1.png", "a%2F1.png")]  # fmt: skip


NEITHER = [("b/1.png", "c/1.png"), ("s3://one/a/1.png", "s3://two/a/1.png")]


def two_names(tmp_path: Path, names: tuple[str, str]) -> tuple[Dataset, SourceLog]:
    """Two images of these names, with an object on each; the only photo is a/1.png."""
    write_png(tmp_path / "photos" / "a" / "1.png", np.zeros((20, 30, 3), np.uint8))
    raw = plain()
    size = {"height": 20, "width": 30}
    raw["images"] = [{"id": key, "file_name": name, **size} for key, name in enumerate(names, 1)]
    raw["annotations"] = [annotation(key, image_id=key, bbox=[2, 2, 10, 6]) for key in (1, 2)]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(raw))
    log = SourceLog(Faults(keep_going=True))
    return read_coco(path, tmp_path / "photos", log), log


@pytest.mark.parametrize("names", SAME)
def test_two_images_that_name_one_file_are_one(tmp_path: Path, names: tuple[str, str]) -> None:
    dataset, log = two_names(tmp_path, names)
    assert len(only(dataset)) == 2
    assert "is listed twice" in log.notes()[0]
    assert log.counts(dataset).images == 2


@pytest.mark.parametrize("names", [*OTHERS, *((two, one) for one, two in OTHERS)])
def test_a_photo_is_that_of_the_image_with_exactly_its_name(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    dataset, log = two_names(tmp_path, names)
    key = names.index("a/1.png") + 1
    assert [record.id for record in dataset.records] == [key]
    assert len(only(dataset)) == 1
    fault = f"has no photo: a/1.png is that of image {key}"
    assert [fault in str(error) for error in log.faults.errors] == [True]
    assert (log.counts(dataset).images, log.counts(dataset).objects) == (2, 2)


@pytest.mark.parametrize("names", NEITHER)
def test_a_photo_that_two_images_may_mean_is_that_of_none(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    dataset, log = two_names(tmp_path, names)
    assert dataset.records == ()
    assert ["may both be a/1.png" in str(error) for error in log.faults.errors] == [True, True]


def test_two_images_of_one_id_and_other_names_are_both_faulty(tmp_path: Path) -> None:
    raw = plain()
    raw["images"].append({**raw["images"][0], "file_name": "b.png"})
    dataset, counts = read(tmp_path, raw, keep_going=True)
    assert dataset.records == ()
    assert (counts.images, counts.objects) == (2, 1)
