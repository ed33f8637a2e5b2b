"""Every format of `pipeline export` and `pipeline import`: what is written is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from round_trips import CATEGORIES, dataset_of

from pipeline.formats.cvat import row_runs
from pipeline.formats.labelme_shapes import draw_polygon
from pipeline.formats.registry import FORMATS
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry import patches
from pipeline.geometry.polygons import centre_ring
from pipeline.io.images import write_png
from pipeline.metrics.fidelity import compare
from pipeline.types import Dataset, Detections, ImageRecord

EXACT = sorted(FORMATS.keys() - {"labelme-polygon", "yolo-segment", "yolo", "mvtec"})


quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def there_and_back(name: str, folder: Path, dataset: Dataset) -> Dataset:
    FORMATS[name].write(folder / "out", dataset, False, 0.0)
    back = FORMATS[name].read(folder / "out", None)
    assert sorted(r.file_name for r in back.records) == sorted(r.file_name for r in dataset.records)
    assert all(record.path.is_file() for record in back.records)
    return back


def pairs(dataset: Dataset, back: Dataset) -> list[tuple[ImageRecord, Detections, Detections]]:
    by_name = {record.file_name: record for record in back.records}
    return [(r, dataset.on(r), back.on(by_name[r.file_name])) for r in dataset.records]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
@quick
@given(mask=strategies.masks, draw=st.data())
def test_masks_come_back_to_the_pixel(
    tmp_path_factory: pytest.TempPathFactory, name: str, mask: np.ndarray, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("set")
    dataset = dataset_of(folder, mask, draw.draw(strategies.masks))
    back = there_and_back(name, folder, dataset)
    assert back.categories == CATEGORIES
    for record, true, read in pairs(dataset, back):
        assert [row.iou for row in compare(true, read, *record.size).rows] == [1.0] * len(true)
        assert read.labels.tolist() == true.labels.tolist()
        assert np.allclose(read.boxes, true.boxes, atol=0.01)


@quick
@given(mask=strategies.masks)
def test_yolo_boxes_come_back_to_a_hundredth_of_a_pixel(
    tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("set")
    dataset = dataset_of(folder, mask)
    for _, true, read in pairs(dataset, there_and_back("yolo", folder, dataset)):
        assert np.allclose(read.boxes, true.boxes, atol=0.01)
        assert read.labels.tolist() == true.labels.tolist()
        assert read.masks is None or not read.masks


@pytest.mark.parametrize("name", ["yolo-segment", "labelme-polygon"])
@quick
@given(mask=strategies.masks)
def test_polygons_on_pixel_centres_keep_every_pixel_of_the_mask(
    tmp_path_factory: pytest.TempPathFactory, name: str, mask: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("set")
    dataset = dataset_of(folder, mask)
    for record, true, read in pairs(dataset, there_and_back(name, folder, dataset)):
        kept = compare(true, read, *record.size)
        assert len(kept.rows) == len(true)
        for row in kept.rows:  # a seam or a pinhole may be added; nothing is taken away
            assert row.area_read >= row.area
            assert row.iou == pytest.approx(row.area / row.area_read)


@quick
@given(mask=strategies.masks)
def test_mvtec_keeps_the_pixels_and_the_category(
    tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray
) -> None:
    folder = tmp_path_factory.mktemp("set")
    dataset = dataset_of(folder, mask, split=False)
    FORMATS["mvtec"].write(folder / "out", dataset, False, 0.0)
    back = FORMATS["mvtec"].read(folder / "out", None)
    by_name = {record.file_name: record for record in back.records}
    for record in dataset.records:
        read = back.on(found := by_name[Path(record.file_name).name])
        union = sum((mask_geometry.decode(rle).astype(int) for rle in read.masks or ()),
                    np.zeros(record.size, int))  # fmt: skip
        true = dataset.on(record).masks or ()
        assert (union == (mask_geometry.decode(true[0]) if true else 0)).all()
        assert found.defect == "crack"


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"mvtec", "png", "yolo-segment"}))
def test_boxes_without_masks_come_back_where_a_format_holds_boxes(
    tmp_path: Path, name: str
) -> None:
    dataset = dataset_of(tmp_path, np.zeros((40, 50), bool))
    record = dataset.records[0]
    boxes = np.array([[3, 4, 13, 9], [0, 0, 50, 40]], np.float32)
    found = Detections(boxes, np.array([2, 0]))
    dataset = Dataset(CATEGORIES, dataset.records, {record.id: found})
    back = there_and_back(name, tmp_path, dataset)
    ((_, _, read), *_) = pairs(dataset, back)
    assert np.allclose(read.boxes, boxes, atol=0.01)
    assert read.labels.tolist() == [2, 0]


def test_review_tools_get_the_confidence_of_each_object(tmp_path: Path) -> None:
    """Two masks, with an expected IoU of 0.9 and 0.4."""
    mask = np.zeros((8, 12), bool)
    mask[1:4, 1:4] = mask[5:8, 8:12] = True
    plain = dataset_of(tmp_path, mask)
    quality = {"expected_iou": np.array([0.9, 0.4], np.float32)}
    rated = replace(plain.objects[1], scores=np.array([0.8, 0.6], np.float32), quality=quality)
    dataset = replace(plain, objects={**plain.objects, 1: rated})
    for name in ("cvat", "labelme", "label-studio"):
        FORMATS[name].write(tmp_path / name, dataset, False, 0.0)
    shapes = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot().iter("mask")
    attributes = [{a.get("name"): a.text for a in shape} for shape in shapes]
    assert attributes == [
        {"expected_iou": "0.9000", "score": "0.8000"},
        {"expected_iou": "0.4000", "score": "0.6000"},
    ]
    path = tmp_path / "labelme" / "train" / "image 1.json"
    assert [shape["description"] for shape in json.loads(path.read_text())["shapes"]] == [
        "expected_iou 0.90, score 0.80",
        "expected_iou 0.40, score 0.60",
    ]
    task, _ = json.loads((tmp_path / "label-studio" / "tasks.json").read_text())
    assert task["predictions"][0]["score"] == 0.4  # its least, to sort tasks by
    assert [row["score"] for row in task["predictions"][0]["result"]] == [0.9, 0.4]


def test_scores_survive_in_results_and_label_studio(tmp_path: Path) -> None:
    mask = np.zeros((12, 16), bool)
    mask[2:5, 3:9] = mask[8:10, 3:9] = True
    plain = dataset_of(tmp_path, mask)
    scored = {
        key: replace(found, scores=np.linspace(0.25, 0.75, len(found), dtype=np.float32))
        for key, found in plain.objects.items()
    }
    dataset = Dataset(CATEGORIES, plain.records, scored)
    for name in ("coco-results", "label-studio", "coco"):
        back = there_and_back(name, tmp_path / name, dataset)
        read = next(read for record, _, read in pairs(dataset, back) if record.id == 1)
        assert read.scores is not None
        assert read.scores.tolist() == [0.25, 0.75]


def test_overlapping_objects_lose_pixels_in_a_png_and_the_report_shows_it(tmp_path: Path) -> None:
    one, two = np.zeros((2, 20, 20), bool)
    one[0:10, 0:10] = True
    two[0:10, 5:15] = True  # covers half of the first
    plain = dataset_of(tmp_path, np.zeros((20, 20), bool))
    found = Detections.from_masks([mask_geometry.encode(one), mask_geometry.encode(two)], 0)
    dataset = Dataset(CATEGORIES, plain.records, {1: found})
    back = there_and_back("png", tmp_path, dataset)
    ((record, true, read), *_) = pairs(dataset, back)
    assert [row.iou for row in compare(true, read, *record.size).rows] == [0.5, 1.0]


def test_an_object_without_pixels_is_reported_lost_and_writes_no_row(tmp_path: Path) -> None:
    plain = dataset_of(tmp_path, np.zeros((20, 20), bool))
    block = np.zeros((20, 20), bool)
    block[2:4, 2:4] = True
    rles = [mask_geometry.encode(np.zeros((20, 20), bool)), mask_geometry.encode(block)]
    boxes = np.array([[0, 0, 5, 5], [2, 2, 4, 4]], np.float32)
    found = Detections(boxes, np.array([0, 1]), masks=tuple(rles))
    dataset = Dataset(CATEGORIES, plain.records, {1: found})
    for name in ("yolo-segment", "labelme", "cvat"):
        back = there_and_back(name, tmp_path / name, dataset)
        ((record, true, read), *_) = pairs(dataset, back)
        assert len(read) == 1
        kept = compare(true, read, *record.size).rows
        assert [(row.area_read, row.iou) for row in kept] == [(0, 1.0), (4, 1.0)]  # empty is empty


@quick
@given(strategies.masks)
def test_cvats_runs_start_with_background_and_cover_the_rectangle(mask: np.ndarray) -> None:
    runs = row_runs(mask)
    assert sum(runs) == mask.size
    assert all(run > 0 for run in runs[1:])
    assert (np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(mask.shape) == mask).all()


def test_a_labelme_file_may_lie_beside_its_folder_of_images(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png", np.zeros((4, 6), np.uint8))
    content = {"shapes": [], "imagePath": "..\\images\\a.png", "imageHeight": 4, "imageWidth": 6}
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.json").write_text(json.dumps(content))
    (record,) = FORMATS["labelme"].read(tmp_path / "labels", None).records
    assert record.file_name == "a.png"
    assert record.path.is_file()


@quick
@given(strategies.masks)
def test_labelmes_polygons_are_drawn_as_labelme_does(mask: np.ndarray) -> None:
    """labelme.utils.shape_to_mask: PIL's polygon on the whole image."""
    from PIL import Image, ImageDraw

    patch = patches.tight(mask)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        ring = contour[:, 0].astype(np.float64) + 0.25
        if len(ring) < 3:
            continue
        whole = Image.new("L", mask.shape[::-1])
        ImageDraw.Draw(whole).polygon([tuple(p) for p in ring.tolist()], outline=1, fill=1)
        drawn = patches.paste(draw_polygon(ring, *mask.shape), *mask.shape)
        assert (drawn == (np.asarray(whole) > 0)).all()
    assert patch.area == mask.sum()


@pytest.mark.parametrize(("loss", "kind"), [(0.0, dict), (0.3, dict), (0.4, list)])
def test_coco_polygons_that_would_lose_more_than_the_bound_become_rle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: float, kind: type
) -> None:
    """Rings on pixel centres, as cv2.findContours gives them, shrink 5 x 5 pixels to 4 x 4, of
    which COCO's reader keeps 16 of 25: a loss of 0.36."""
    monkeypatch.setattr(
        "pipeline.formats.coco_rows.coco_rings", lambda patch: [centre_ring(patch).round()]
    )
    mask = np.zeros((20, 20), bool)
    mask[4:9, 4:9] = True
    dataset = dataset_of(tmp_path, mask)
    FORMATS["coco-polygon"].write(tmp_path / "out", dataset, False, loss)
    raw = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    (row,) = raw["annotations"]
    assert isinstance(row["segmentation"], kind)
    assert row["iscrowd"] == 0
