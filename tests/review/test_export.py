from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from review_sessions import CATEGORIES, draw_labels, session, square
from small import CallPipeline

from pipeline.config.labels import ExportConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.registry import FORMATS
from pipeline.geometry.masks import decode
from pipeline.review.actions import Move
from pipeline.review.store import ReviewStore
from pipeline.review.values import Key, ObjectValue, object_value
from pipeline.stages.export_labels import export_labels


def reviewed_labels(folder: Path) -> Path:
    """Labels of which object 1 is accepted, 2 rejected, 3 drawn elsewhere, 4 not seen; 5 is new."""
    labels = draw_labels(folder)
    with ReviewStore(session(labels)) as store:
        for number, image, state in ((1, 1, "accepted"), (2, 1, "rejected")):
            ((text,),) = store.rows("SELECT value FROM objects WHERE id = ?", number)
            value = object_value(str(text))
            assert isinstance(value, ObjectValue)
            after = {Key("object", number): value.model_copy(update={"state": state})}
            store.act("Ann", Move(state, image, number, after))
        store.act("Ben", Move("edit", 2, 3, {Key("object", 3): square(30, 30, 1)}))
        store.act("=Eve", Move("add", 3, added=[square(50, 2, 0, 9)]))
    return labels


def test_labels_without_a_review_are_exported_as_they_are(tmp_path: Path) -> None:
    result = export_labels(draw_labels(tmp_path), "coco", tmp_path / "out")
    assert (result.objects, result.review, result.reviewed) == (4, None, None)
    assert not (tmp_path / "out" / "history.csv").exists()


def test_pycocotools_reads_the_reviewed_set_pixel_by_pixel(tmp_path: Path) -> None:
    result = export_labels(reviewed_labels(tmp_path), "coco", tmp_path / "out")
    # 4 objects, less 1 rejected, and 1 more; of these three are judged
    assert (result.objects, result.reviewed, result.rejected) == (4, 3, 1)
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances.json"))
    rows = coco.loadAnns(coco.getAnnIds())
    assert [row["reviewed"] for row in rows] == [True, True, False, True]
    drawn = np.zeros((48, 64), bool)
    drawn[30:36, 30:36] = True
    assert (coco.annToMask(rows[1]) == drawn).all()
    assert coco.annToMask(rows[3]).sum() == 81  # 9 x 9
    assert rows[1]["category_id"] == 2
    assert ["expected_iou" in row for row in rows] == [True, False, True, False]
    assert [row.get("finder") for row in rows] == [None, None, None, "person"]
    assert [entry["who"] for entry in rows[1]["history"]] == ["Ben"]
    assert "history" not in rows[2]


def test_the_labels_themselves_never_change(tmp_path: Path) -> None:
    labels = draw_labels(tmp_path)
    before = labels.read_bytes()
    reviewed_labels(tmp_path)
    assert labels.read_bytes() == before
    result = export_labels(labels, "coco", tmp_path / "out", ExportConfig(original=True))
    assert (result.objects, result.review) == (4, None)


def test_the_history_has_a_row_for_each_change(tmp_path: Path) -> None:
    export_labels(reviewed_labels(tmp_path), "voc", tmp_path / "out")
    with (tmp_path / "out" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["accepted", "rejected", "edit", "add"]
    assert rows[2]["pixels_before"] == rows[2]["pixels_after"] == "36"
    assert rows[2]["iou"] == "0.0"  # it was drawn elsewhere
    assert rows[3]["who"] == "'=Eve"  # no formula


@pytest.mark.slow
@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_gets_the_reviewed_set(tmp_path: Path, form: str) -> None:
    result = export_labels(reviewed_labels(tmp_path), form, tmp_path / "out")
    assert (result.objects, result.reviewed) == (4, 3)
    assert result.categories == CATEGORIES


def test_only_what_a_person_has_finished_is_written_on_request(tmp_path: Path) -> None:
    """Both objects of image 1 are judged, one of two on image 2, and the one on image 3 is new."""
    labels = reviewed_labels(tmp_path)
    finished = ExportConfig(finished=True)
    result = export_labels(labels, "coco", tmp_path / "out", finished)
    assert (result.images, result.objects) == (2, 2)
    with pytest.raises(ConfigError, match="there is no review"):
        other = draw_labels(tmp_path / "other")
        export_labels(other, "coco", tmp_path / "two", finished)


def test_a_session_is_exported_by_its_own_name(tmp_path: Path, call_pipeline: CallPipeline) -> None:
    reviewed_labels(tmp_path)
    ended = call_pipeline(
        "export", tmp_path / "instances.review", "--to", "coco", "-o", tmp_path / "out", "--json"
    )
    assert json.loads(ended.stdout)["reviewed"] == 3
    ended = call_pipeline("export", tmp_path / "no.review", "--to", "coco", "-o", tmp_path / "two")
    assert (ended.code, "no such review" in ended.stderr) == (2, True)


def test_a_session_that_names_an_image_elsewhere_is_refused(tmp_path: Path) -> None:
    labels = reviewed_labels(tmp_path)
    with ReviewStore(labels.with_suffix(".review")) as store:
        store._database.execute("UPDATE images SET place = '../secret.png'")
        store._database.execute('UPDATE images SET record = \'{"path": "/etc/passwd"}\'')
    with pytest.raises(DataError, match=r"is damaged \(image 1"):
        export_labels(labels, "coco", tmp_path / "out")


def test_masks_come_out_as_they_were_drawn(tmp_path: Path) -> None:
    value = square(3, 4, 0, 5)
    rle = value.rle((48, 64))
    assert rle is not None
    assert decode(rle).sum() == 25  # 5 x 5
    assert value.box == (3, 4, 8, 9)
