"""Which photo a task of Label Studio means."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from studio import HEIGHT, PIXELS, WIDTH, annotation, box, left_out, read, result, task

from pipeline.stages.export_labels import import_labels

TEXTS = {"x": "12.5", "y": "20", "width": "25.0", "height": "3e1"}
BARE = {"id": 1, "data": {"image": "a.png"}}


FILE_URI = base64.urlsafe_b64encode(b"s3://bucket/line 3/a.png").decode()


@pytest.mark.parametrize(
    ("image", "there", "name"),
    [
        ("a.png", ["a.png"], "a.png"),
        ("/data/upload/1/3f2a9c1b-a.png", ["3f2a9c1b-a.png"], "3f2a9c1b-a.png"),
        ("/data/upload/1/3f2a9c1b-a.png", ["a.png"], "a.png"),
        ("/data/upload/1/3f2a9c1b-a.png", ["a.png", "3f2a9c1b-a.png"], "3f2a9c1b-a.png"),
        ("/data/upload/1/3f2a9c1b-shot_1_2.png", ["shot 1 (2).png"], "shot 1 (2).png"),
        ("/data/upload/1/3f2a9c1b-fl%C3%A4che.png", ["fläche.png"], "fläche.png"),
        ("http://localhost:8080/data/upload/1/3f2a9c1b-a.png", ["a.png"], "a.png"),
        ("/data/local-files/?d=photos/line%203/a.png", ["line 3/a.png"], "line 3/a.png"),
        ("/data/local-files/?d=images/a.png", ["a.png", "train/a.png"], "a.png"),
        ("/data/local-files/?d=C:\\photos\\a.png", ["a.png"], "a.png"),
        ("http://host/data/local-files/?d=%2Fmnt%2Fcam%2Fa.png", ["cam/a.png", "b/a.png"],
         "cam/a.png"),
        ("https://b.s3.amazonaws.com/line3/a.png?X-Amz-Signature=a%2Fb&X=1", ["a.png"], "a.png"),
        ("https://a.blob.core.windows.net/c/a.png?sv=2020&sig=x%3D", ["c/a.png"], "c/a.png"),
        ("s3://bucket/camA/a.png", ["camA/a.png", "camB/a.png"], "camA/a.png"),
        ("gs://bucket/camB/a.png", ["camA/a.png", "camB/a.png"], "camB/a.png"),
        ("azure-blob://container/a.png", ["a.png"], "a.png"),
        (f"/tasks/12/resolve/?fileuri={FILE_URI}", ["line 3/a.png"], "line 3/a.png"),
        (f"/projects/1/presign/?fileuri={FILE_URI.rstrip('=')}", ["a.png"], "a.png"),
        ("/storage-data/uploaded/?filepath=upload/1/3f2a9c1b-a.png", ["a.png"], "a.png"),
        ("https://host/b/3f2a9c1b-a.png?X-Amz-Signature=a", ["a.png"], "a.png"),
        ("/data/local-files/?d=cam/a.png&t=3", ["cam/a.png", "b/a.png"], "cam/a.png"),
        ("/data/local-files/?t=3&d=cam%2Fa.png&v=1#x", ["cam/a.png", "b/a.png"], "cam/a.png"),
        ("/data/local-files/?d=R&D/a.png", ["R&D/a.png", "R/a.png"], "R&D/a.png"),
        ("/data/local-files/?d=cam/3f2a9c1b-a.png&t=3", ["a.png"], "a.png"),
        ("/data/local-files/?d=line+3/shot+1.png", ["line 3/shot 1.png"], "line 3/shot 1.png"),
        ("/data/local-files/?d=shot+1.png", ["shot 1.png", "shot+1.png"], "shot+1.png"),
        ("https://b.s3.amazonaws.com/shot+1%2B.png?X=a+b", ["shot 1+.png"], "shot 1+.png"),
        (f"/tasks/12/resolve/?fileuri={FILE_URI.rstrip('=')}&t=3", ["a.png"], "a.png"),
        # as its own exports save a photo: 8 digits of the md5 of the address, and __
        ("s3://bucket/camA/a.png", ["f5ae816d__a.png", "00000000__a.png"], "f5ae816d__a.png"),
        ("s3://bucket/camA/a.png", ["12345678__a.png"], "12345678__a.png"),
        ("a", ["a.png"], "a.png"),
    ],
)  # fmt: skip
def test_the_photo_is_found_by_uploads_storages_and_urls(
    tmp_path: Path, image: str, there: list[str], name: str
) -> None:
    dataset, _ = read(tmp_path, task(annotation(), image=image), images=tuple(there))
    (record,) = dataset.records
    assert record.file_name == name
    assert record.path.is_file()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"img": "a.png"}, "a.png"),
        ({"captioned": "a.png", "text": "a long text"}, "a.png"),
        ({"image": "a.png", "reference": "b.png"}, "a.png"),
        ({"photo": "a.png", "mask": "not-here.png"}, "a.png"),
        ({"photo": "s3://x/a.png", "meta": {"line": 3}, "n": 7, "split": ["train"]}, "a.png"),
        ({"pages": ["a.png"]}, "a.png"),
        ({"image": [{"url": "s3://x/a.png", "id": "7"}]}, "a.png"),
        ({"image": {"url": "a.png", "thumbnail": "b.png"}}, "a.png"),
        ({"shown": {"src": "/data/local-files/?d=a.png&t=3"}, "meta": {"url": "x"}}, "a.png"),
    ],
)
def test_any_key_of_the_data_may_hold_the_photo(
    tmp_path: Path, data: dict[str, Any], name: str
) -> None:
    given = {"id": 1, "data": data, "annotations": [annotation(box())]}
    dataset, _ = read(tmp_path, given, images=("a.png", "b.png"))
    assert [record.file_name for record in dataset.records] == [name]


def test_the_labeling_interface_beside_the_file_names_the_photo_and_the_categories(
    tmp_path: Path,
) -> None:
    (tmp_path / "label_config.xml").write_text(
        '<View><Image name="right" value="$b"/><RectangleLabels name="l" toName="right">'
        '<Label value="rust" alias="r"/><View><Label value="crack"/></View>'
        "</RectangleLabels></View>"
    )
    given = task(annotation(box("new"), box("crack", "r2", x=50)))
    given["data"] = {"a": "a.png", "b": "b.png"}
    dataset, _ = read(tmp_path, given, images=("a.png", "b.png"))
    assert dataset.records[0].file_name == "b.png"
    assert dataset.categories == ("r", "crack", "new")
    assert dataset.on(dataset.records[0]).labels.tolist() == [2, 1]


@pytest.mark.parametrize("config", ["", '<View><Image name="{0}" value="$b"/></View>'])
def test_of_images_beside_each_other_the_one_with_the_regions_is_read(
    tmp_path: Path, config: str
) -> None:
    tag = "right" if config else "b"
    if config:
        (tmp_path / "label_config.xml").write_text(
            config.format(tag).replace("<View>", '<View><Image name="left" value="$image"/>')
        )
    given = task(annotation(box(to_name=[tag])))
    given["data"] = {"image": "a.png", "b": "b.png"}
    dataset, _ = read(tmp_path, given, images=("a.png", "b.png"))
    assert [record.file_name for record in dataset.records] == ["b.png"]


def test_numbers_that_are_text_are_read_and_noted(tmp_path: Path) -> None:
    rows = box(), result("rectanglelabels", {**TEXTS, "rectanglelabels": ["7"]}, "r2")
    dataset, counts = read(tmp_path, task(annotation(*rows)))
    assert dataset.categories == ("7", "crack")
    assert dataset.on(dataset.records[0]).boxes.tolist() == [PIXELS, PIXELS]
    assert counts.notes[0].startswith("1 x regions with numbers that are text")


def test_the_pages_of_a_task_are_images_of_their_own(tmp_path: Path) -> None:
    pages = ["s3://x/a.png", "s3://x/b.png"]
    rows = box("one", item_index=1), box("two", "r2", item_index=0), box("lost", "r3", item_index=2)
    dataset, counts = read(
        tmp_path, task(annotation(*rows), image=pages), images=("a.png", "b.png")
    )
    found = {r.file_name: [dataset.categories[i] for i in dataset.on(r).labels]
             for r in dataset.records}  # fmt: skip
    assert found == {"a.png": ["two"], "b.png": ["one"]}
    assert left_out(counts) == {"rectanglelabels": 1}


def test_a_photo_without_results_has_the_size_of_its_file(tmp_path: Path) -> None:
    dataset, _ = read(tmp_path, task(annotation()))
    assert dataset.records[0].size == (HEIGHT, WIDTH)


def test_a_photo_that_exif_turns_is_labelled_as_it_is_shown(tmp_path: Path) -> None:
    """80 x 60 pixels are stored on their side; browsers, and Label Studio, show them upright."""
    path = tmp_path / "images" / "a.jpg"
    path.parent.mkdir()
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(path, exif=exif)
    tasks = task(annotation(box()), image="a.jpg"), task(annotation(), image="b.png", key=2)
    dataset, _ = read(tmp_path, *tasks, images=("b.png",))
    assert [record.size for record in dataset.records] == [(HEIGHT, WIDTH)] * 2
    found = import_labels(tmp_path / "project.json", "label-studio", tmp_path / "out")
    assert (found.images, found.objects) == (2, 1)
