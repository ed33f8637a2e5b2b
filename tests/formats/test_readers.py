"""What convert-masks writes, in the hands of the tools that will read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pipeline.config.schema import ConvertConfig, ExportConfig
from pipeline.models import ultralytics_offline
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.export_labels import export_labels

MakeProduct = Callable[..., Path]
BLOCK_PIXELS = 24  # the fixture's mask is 6 x 4


@pytest.fixture
def converted(make_product: MakeProduct, tmp_path: Path) -> Path:
    output = tmp_path / "out"
    convert_masks([make_product({"crack": 5, "stain": 5})], output, ConvertConfig())
    return output


def test_pycocotools_reads_every_mask_to_the_pixel(converted: Path) -> None:
    from pycocotools.coco import COCO

    coco = COCO(str(converted / "annotations" / "instances.json"))
    assert len(coco.imgs) == 16
    assert [coco.annToMask(a).sum() for a in coco.anns.values()] == [BLOCK_PIXELS] * 10
    assert {tuple(a["bbox"]) for a in coco.anns.values()} == {(20, 10, 6, 4)}


def test_a_perfect_prediction_has_ap_1_in_cocoeval(converted: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(str(converted / "annotations" / "instances.json"))
    rows = [dict(row, score=0.9) for row in coco.dataset["annotations"]]
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(coco, coco.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "segments"), [(".", 0), ("segment", 5)])
def test_ultralytics_reads_boxes_and_polygons(converted: Path, folder: str, segments: int) -> None:
    ultralytics_offline.load()
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(converted / folder / "data.yaml"))
    assert data["names"] == {0: "crack", 1: "stain"}
    labels = []
    for split in ("train", "val", "test"):
        task = "segment" if segments else "detect"
        dataset = YOLODataset(data[split], data=data, task=task, augment=False, imgsz=64)
        labels += [row for row in dataset.labels if len(row["cls"])]
    assert len(labels) == 10
    for row in labels:
        centre = [23 / 64, 12 / 48, 6 / 64, 4 / 48]
        if segments:
            points = (row["segments"][0] * [64, 48]).astype(np.int32)
            drawn = cv2.fillPoly(np.zeros((48, 64), np.uint8), [points], 1)
            assert drawn.sum() == BLOCK_PIXELS
        else:
            assert row["bboxes"][0] == pytest.approx(centre, abs=1e-5)


def test_ultralytics_reads_the_folds(make_product: MakeProduct, tmp_path: Path) -> None:
    ultralytics_offline.load()
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    product = make_product({"crack": 6}, good_train=6, good_test=0)
    convert_masks([product], tmp_path / "out", ConvertConfig(folds=2, test=0.0, val=0.2))
    seen = []
    for fold in range(2):
        data = check_det_dataset(str(tmp_path / "out" / f"data_fold{fold}.yaml"))
        dataset = YOLODataset(data["val"], data=data, task="detect", augment=False, imgsz=64)
        assert sum(len(row["cls"]) for row in dataset.labels) == 3
        seen += [Path(row["im_file"]).name for row in dataset.labels]
    assert len(set(seen)) == len(seen) == 12


def test_supervision_reads_coco_and_yolo(converted: Path) -> None:
    supervision = pytest.importorskip("supervision")
    read = supervision.DetectionDataset.from_coco(
        str(converted / "images"), str(converted / "annotations" / "instances.json"), True
    )
    masks = [found.mask.sum() for _, _, found in read if len(found)]
    assert masks == [BLOCK_PIXELS] * 10
    read = supervision.DetectionDataset.from_yolo(
        str(converted / "images" / "train"),
        str(converted / "labels" / "train"),
        str(converted / "data.yaml"),
    )
    assert read.classes == ["crack", "stain"]
    boxes = [found.xyxy[0] for _, _, found in read if len(found)]
    assert all(box == pytest.approx([20, 10, 26, 14], abs=0.01) for box in boxes)


def test_cvats_importer_reads_coco(converted: Path) -> None:
    """datumaro is the library behind CVAT's import and export."""
    datumaro = pytest.importorskip("datumaro")
    read = datumaro.Dataset.import_from(
        str(converted / "annotations" / "instances.json"), "coco_instances"
    )
    found = [annotation for item in read for annotation in item.annotations]
    assert len(read) == 16
    masks = [a for a in found if a.type == datumaro.AnnotationType.mask]
    assert [int(mask.image.sum()) for mask in masks] == [BLOCK_PIXELS] * 10


def test_data_yaml_names_only_splits_that_exist(make_product: MakeProduct, tmp_path: Path) -> None:
    convert_masks([make_product()], tmp_path / "out", ConvertConfig(val=0.0, test=0.0))
    data = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert data["train"] == data["val"] == "images/train"
    assert "test" not in data


@pytest.fixture
def holed(make_product: MakeProduct, tmp_path: Path) -> Path:
    """A set whose one mask has a hole, two parts, a one-pixel scratch and a single pixel."""
    mask = np.zeros((48, 64), np.uint8)
    mask[4:16, 4:20] = 255
    mask[8:12, 8:14] = 0
    mask[20:24, 30:34] = 255
    mask[30, 5:40] = 255
    mask[40, 50] = 255
    output = tmp_path / "set"
    product = make_product({"crack": 2}, mask=mask, good_train=1, good_test=0)
    convert_masks([product], output, ConvertConfig(one_instance=True, val=0, test=0))
    return output


HOLED_PIXELS = 12 * 16 - 4 * 6 + 16 + 35 + 1


def exported(holed: Path, name: str) -> Path:
    target = holed.parent / name
    found = export_labels(holed, name, target, ExportConfig())
    assert found.fidelity[name].instances == 2
    return target


def test_datumaro_reads_cvats_masks(holed: Path) -> None:
    import datumaro

    path = exported(holed, "cvat") / "annotations.xml"
    read = datumaro.Dataset.import_from(str(path), "cvat")
    masks = [a for item in read for a in item.annotations]
    assert [int(mask.image.sum()) for mask in masks] == [HOLED_PIXELS] * 2
    assert {mask.type for mask in masks} == {datumaro.AnnotationType.mask}


def test_datumaro_reads_cvats_coco(holed: Path) -> None:
    import datumaro

    read = datumaro.Dataset.import_from(str(exported(holed, "cvat-coco")), "coco_instances")
    found = [a for item in read for a in item.annotations]
    masks = [a for a in found if a.type == datumaro.AnnotationType.mask]
    assert [int(mask.image.sum()) for mask in masks] == [HOLED_PIXELS] * 2
    assert all(item.media is not None for item in read)


def test_datumaro_reads_voc_boxes_and_masks(holed: Path) -> None:
    import datumaro

    read = datumaro.Dataset.import_from(
        str(exported(holed, "voc")), "voc", coordinate_mode="voc-one-based"
    )
    found = [a for item in read for a in item.annotations]
    boxes = [a.get_bbox() for a in found if a.type == datumaro.AnnotationType.bbox]
    assert boxes == [[4, 4, 47, 37]] * 2  # x, y, width, height of columns 4-50, rows 4-40
    masks = [a for a in found if a.type == datumaro.AnnotationType.mask]
    assert [int(mask.image.sum()) for mask in masks] == [HOLED_PIXELS] * 2


def test_supervision_reads_voc_boxes(holed: Path) -> None:
    import supervision

    root = exported(holed, "voc")
    read = supervision.DetectionDataset.from_pascal_voc(
        str(root / "JPEGImages" / "train"), str(root / "Annotations" / "train")
    )
    boxes = [found.xyxy[0].tolist() for _, _, found in read if len(found)]
    assert boxes == [[4, 4, 51, 41]] * 2  # half-open


def test_torchvision_reads_coco_polygons_through_pycocotools(holed: Path) -> None:
    from torchvision.datasets import CocoDetection

    root = exported(holed, "coco-polygon")
    read = CocoDetection(str(root / "images"), str(root / "annotations" / "instances.json"))
    rows = [row for _, target in read for row in target]
    assert all(isinstance(row["segmentation"], list) for row in rows)
    assert [read.coco.annToMask(row).sum() for row in rows] == [HOLED_PIXELS] * 2


def test_ultralytics_draws_the_hole_of_a_polygon(holed: Path) -> None:
    ultralytics_offline.load()
    from ultralytics.data import YOLODataset
    from ultralytics.data.utils import check_det_dataset, polygon2mask

    root = exported(holed, "yolo-segment")
    data = check_det_dataset(str(root / "data.yaml"))
    dataset = YOLODataset(data["train"], data=data, task="segment", augment=False, imgsz=64)
    rows = [row for row in dataset.labels if len(row["cls"])]
    assert len(rows) == 2
    for row in rows:
        points = row["segments"][0] * [64, 48]
        drawn = polygon2mask((48, 64), [points.ravel()])
        assert not drawn[8:12, 8:14].any()
        assert drawn.sum() <= HOLED_PIXELS + 40  # seams of one pixel between the four parts
