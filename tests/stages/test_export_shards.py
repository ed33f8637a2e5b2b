"""`export --shards`: labels in several files, which every command reads as one set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from review_sessions import draw_labels, session, square
from small import CallPipeline

from pipeline.config.labels import ExportConfig
from pipeline.errors import ConfigError
from pipeline.formats.registry import FORMATS
from pipeline.formats.shards import merge_shards
from pipeline.review.actions import Move
from pipeline.review.store import ReviewStore
from pipeline.stages.export_labels import export_labels, import_labels

COCO = Path("annotations") / "instances.json"


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].shard])
@pytest.mark.parametrize("shards", [1, 4])
def test_an_import_of_shards_gives_the_bytes_of_an_import_of_one_file(
    converted_widget: Path, tmp_path: Path, name: str, shards: int
) -> None:
    for folder, config in (("one", ExportConfig()), ("parts", ExportConfig(shards=shards))):
        sent = export_labels(converted_widget, name, tmp_path / folder, config)
        assert sent.objects > 0
        assert sent.fidelity[name].lost == 0
        import_labels(tmp_path / folder, name, tmp_path / f"{folder} back")
    one, parts = (tmp_path / f"{folder} back" / COCO for folder in ("one", "parts"))
    assert parts.read_bytes() == one.read_bytes()
    index = next((tmp_path / "parts").rglob("*.index.json"))
    assert len(json.loads(index.read_text())["shards"]) == shards
    if name == "coco":
        merge_shards(index, tmp_path / "merged.json")
        assert (tmp_path / "merged.json").read_bytes() == (tmp_path / "one" / COCO).read_bytes()


def test_a_format_that_is_never_divided_is_refused(converted_widget: Path, tmp_path: Path) -> None:
    message = "--shards: yolo is never divided; choose coco, coco-polygon, parquet"
    with pytest.raises(ConfigError, match=message):
        export_labels(converted_widget, "yolo", tmp_path / "out", ExportConfig(shards=2))
    assert not (tmp_path / "out").exists()


def test_shards_keep_the_history_of_a_review(tmp_path: Path) -> None:
    labels = draw_labels(tmp_path)
    with ReviewStore(session(labels)) as store:
        store.act("Eve", Move("add", 3, added=[square(50, 2, 0, 9)]))
    export_labels(labels, "coco", tmp_path / "one")
    export_labels(labels, "coco", tmp_path / "parts", ExportConfig(shards=2))
    index = tmp_path / "parts" / "annotations" / "instances.index.json"
    merge_shards(index, tmp_path / "merged.json")
    merged = (tmp_path / "merged.json").read_bytes()
    assert merged == (tmp_path / "one" / COCO).read_bytes()
    assert b'"history": [{' in merged


def test_the_commands_write_shards_and_read_their_index(
    converted_widget: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    for form in ("coco", "parquet"):
        out, back = tmp_path / form, tmp_path / f"{form} back"
        sent = call_pipeline("export", converted_widget, "--to", form, "--shards", 3, "-o", out)
        assert sent.code == 0
        index = next(out.rglob("*.index.json"))
        assert call_pipeline("validate", index).code == 0
        assert call_pipeline("import", index, "--from", form, "-o", back).code == 0
        ended = call_pipeline("convert-masks", index, "-o", tmp_path / f"{form} converted")
        assert ended.code == 0
        for source in (back, index):
            again = tmp_path / f"{form} {source.name}"
            ended = call_pipeline("export", source, "--to", "coco", "-o", again, "--json")
            assert json.loads(ended.stdout)["objects"] > 0
        shard = next(out.rglob("*-00001-of-00003.*"))
        shard.write_bytes(b"")
        ended = call_pipeline("import", index, "--from", form, "-o", tmp_path / "x")
        assert (ended.code, ended.stderr.count("\n")) == (2, 1)
        assert "its sha256 is another; copy it again" in ended.stderr
    ended = call_pipeline("export", converted_widget, "--to", "coco", "--shards", 0, "-o", "x")
    assert ended.code == 2
