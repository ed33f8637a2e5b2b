from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.config.schema import ConvertConfig, EvaluateConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco, write_coco
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.io.images import write_png
from pipeline.io.write import write_json
from pipeline.metrics.evaluation import GroupMean, Precision
from pipeline.results import from_json
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.evaluate import EvaluateResult, evaluate
from pipeline.types import Dataset, Detections

MakeProduct = Callable[..., Path]


@pytest.fixture
def truth(make_product: MakeProduct, tmp_path: Path) -> Path:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 10:30] = 255
    mask[10:20, 20:30] = 0
    mask[15:20, 10:30] = 255  # an L: 10 x 10 and 5 x 20, 150 of the box's 200 pixels
    product = make_product({"crack": 2, "stain": 2}, mask=mask)
    convert_masks([product], tmp_path / "out", ConvertConfig())
    return tmp_path / "out" / "annotations" / "instances.json"


def predictions(truth: Path, change: Callable[[Detections], Detections]) -> Path:
    dataset = read_coco(truth)
    objects = {
        key: change(replace(found, scores=np.full(len(found), 0.9, np.float32), quality={}))
        for key, found in dataset.objects.items()
    }
    path = truth.parent / "predictions.json"
    write_coco(path, replace(dataset, objects=objects))
    return path


def test_the_truth_itself_is_perfect_and_its_boxes_filled_are_not(truth: Path) -> None:
    found = evaluate(
        truth,
        predictions(truth, lambda o: o),
        None,
        EvaluateConfig(),
        images=truth.parent.parent / "images",
    )
    assert (found.matched, found.missed, found.extra) == (4, 0, 0)
    assert found.mask_iou == found.boundary_iou == 1
    assert found.average_precision == Precision(box_ap=1, box_ap50=1, mask_ap=1, mask_ap50=1)
    assert found.mask_iou_by_size == {"small": GroupMean(mean=1, count=4)}
    assert found.baselines is not None
    assert found.baselines["box_fill"].mask_iou == pytest.approx(150 / 200)
    assert from_json(EvaluateResult, found.to_json(), truth) == found


@pytest.mark.slow
def test_the_expected_iou_is_held_against_the_truth_and_false_alarms_count(
    truth: Path, tmp_path: Path
) -> None:
    """Four masks with IoU 1, of which 0.8 is expected, and a false alarm on each photo, of which
    0.4 is: off by (4 x 0.2 + 4 x 0.4) / 8. Two out-of-fold masks are off by 0 and by 1."""

    def expected(found: Detections) -> Detections:
        corner = mask_geometry.from_box(as_boxes([[40, 30, 50, 40]])[0], 48, 64)
        other = Detections.from_masks([corner], 0)
        both = Detections(
            np.concatenate([found.boxes, other.boxes]),
            np.concatenate([found.labels, other.labels]),
            np.array([0.9, 0.3], np.float32),
            (*(found.masks or ()), *(other.masks or ())),
        )
        return replace(both, quality={"expected_iou": np.array([0.8, 0.4], np.float32)})

    row = {"group": "a", "category": "crack", "iou": 0.0, "expected_iou": 0.0, "probability": 0.0}
    write_json(tmp_path / "trust" / "masks.json", [row, {**row, "iou": 1.0}])
    labels = predictions(truth, expected)
    found = evaluate(truth, labels, tmp_path / "figures", trust=tmp_path / "trust")
    assert found.expected_iou is not None
    assert (found.expected_iou.masks, found.expected_iou.unmatched) == (8, 4)
    assert found.expected_iou.error[0] == pytest.approx(0.3, abs=1e-3)
    assert found.with_out_of_fold is not None
    assert found.with_out_of_fold.error[0] == pytest.approx((8 * 0.3 + 1) / 10, abs=1e-3)
    assert (tmp_path / "figures" / "reliability.png").is_file()
    assert from_json(EvaluateResult, found.to_json(), truth) == found


def test_predictions_without_a_score_are_counted_and_said(
    truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("pipeline.stages.evaluate.say", said.append)
    rows = [
        {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": row["bbox"]}
        for row in json.loads(truth.read_text())["annotations"]
    ]
    path = truth.parent / "results.json"
    path.write_text(json.dumps([{**rows[0], "score": 0.5}, *rows[1:]]))
    assert evaluate(truth, path).unscored == 3  # of four, each on an image of its own
    assert [text.partition(",")[0] for text in said] == ["3 predictions have no score"]
    path.write_text(json.dumps([{**row, "score": 0.5} for row in rows]))
    assert evaluate(truth, path).unscored == 0
    assert len(said) == 1


def test_a_missed_object_counts_0_where_it_should(truth: Path) -> None:
    nothing = predictions(truth, lambda o: o.select(np.zeros(len(o), bool)))
    found = evaluate(truth, nothing, None, EvaluateConfig())
    assert (found.matched, found.missed) == (0, 4)
    assert found.mask_iou is None
    assert found.mask_iou_missed_as_0 == 0
    assert found.average_precision.box_ap == 0


def test_boxes_of_which_nothing_was_predicted_have_an_ap_of_0(truth: Path, tmp_path: Path) -> None:
    dataset = read_coco(truth)
    boxes = {key: replace(found, masks=None) for key, found in dataset.objects.items()}
    write_coco(tmp_path / "boxes.json", replace(dataset, objects=boxes))
    (tmp_path / "none.json").write_text("[]")
    found = evaluate(tmp_path / "boxes.json", tmp_path / "none.json", None, EvaluateConfig())
    assert found.missed == 4
    assert found.average_precision == Precision(box_ap=0, box_ap50=0)


def test_a_mask_on_the_right_box_is_judged_by_its_pixels(truth: Path) -> None:
    def fill(objects: Detections) -> Detections:
        return replace(
            objects, masks=tuple(mask_geometry.from_box(b, 48, 64) for b in objects.boxes)
        )

    found = evaluate(truth, predictions(truth, fill), None, EvaluateConfig(grabcut=False))
    assert found.mask_iou == pytest.approx(0.75)
    assert found.average_precision.mask_ap50 == 1  # 0.75 is above 0.5
    assert found.average_precision.mask_ap == pytest.approx(0.6)  # 0.50 to 0.75: 6 of 10


def test_merged_predictions_are_held_against_the_merged_truth(truth: Path) -> None:
    path = predictions(truth, lambda o: replace(o, labels=np.zeros_like(o.labels)))
    dataset = read_coco(path)
    write_coco(path, Dataset(("defect",), dataset.records, dataset.objects))
    assert evaluate(truth, path, None, EvaluateConfig()).average_precision.box_ap == 1


def test_other_categories_and_other_images_are_refused(truth: Path) -> None:
    raw = json.loads(truth.read_text())
    raw["categories"][0]["name"] = "rust"
    other = truth.parent / "other.json"
    other.write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=r"categories differ: truth has crack, stain; .* rust"):
        evaluate(truth, other, None, EvaluateConfig())
    raw["categories"][0]["name"] = "crack"
    for image in raw["images"]:
        image["file_name"] = "elsewhere_" + Path(image["file_name"]).name
    other.write_text(json.dumps(raw))
    with pytest.raises(DataError, match="no image of the predictions is in the truth"):
        evaluate(truth, other, None, EvaluateConfig())


def test_equal_names_in_different_folders_are_never_taken_for_one_image(
    truth: Path, tmp_path: Path
) -> None:
    raw = json.loads(truth.read_text())
    for number, image in enumerate(raw["images"]):
        image["file_name"] = f"line{number}/000.png"
    folders, flat = tmp_path / "folders.json", tmp_path / "flat.json"
    folders.write_text(json.dumps(raw))
    assert evaluate(folders, folders, None, EvaluateConfig()).matched == 4
    for image in raw["images"]:
        image["file_name"] = "000.png"
    flat.write_text(json.dumps(raw))
    with pytest.raises(DataError, match="no image of the predictions is in the truth"):
        evaluate(folders, flat, None, EvaluateConfig())


def cocoeval(truth: Path, rows: list[dict[str, object]], kind: str) -> tuple[float, float]:
    """AP and AP50 of pycocotools itself."""
    reference = COCO(str(truth))
    judged = COCOeval(reference, reference.loadRes(rows), kind)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    return judged.stats[0], judged.stats[1]


def test_crowds_and_boxes_outside_count_as_in_cocoeval(
    tmp_path: Path,
) -> None:
    size = {"height": 60, "width": 80}
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps({
        "images": [{"id": key, "file_name": f"{key}.png", **size} for key in (1, 2)],
        "categories": [{"id": 3, "name": "crack"}],
        "annotations": [
            {"id": key, "image_id": image, "category_id": 3, "bbox": box, "iscrowd": crowd,
             "area": box[2] * box[3]}
            for key, (image, box, crowd) in enumerate([
                (1, [10, 10, 20, 10], 0), (1, [40, 20, 30, 30], 1), (2, [-5, 5, 20, 20], 0),
                (2, [50, 40, 10, 10], 0),
            ], start=1)
        ],
    }))  # fmt: skip
    rows: list[dict[str, object]] = [
        {"image_id": image, "category_id": 3, "bbox": box, "score": score}
        for image, box, score in [
            (1, [10, 10, 20, 11], 0.9), (1, [42, 22, 9, 9], 0.8), (1, [42, 35, 9, 9], 0.7),
            (1, [0, 40, 9, 9], 0.6), (2, [-5, 5, 18, 20], 0.5),
        ]
    ]  # fmt: skip
    results.write_text(json.dumps(rows))
    found = evaluate(truth, results)
    # of 5 predictions two match, two lie on the crowd, and one is extra
    assert (found.objects, found.matched, found.missed) == (3, 2, 1)
    assert (found.extra, found.ignored) == (1, 1)
    precision = found.average_precision
    assert (precision.box_ap, precision.box_ap50) == pytest.approx(
        cocoeval(truth, rows, "bbox"), abs=1e-4
    )


def test_a_photo_of_another_size_is_refused(truth: Path) -> None:
    images = truth.parent.parent / "images"
    path = predictions(truth, lambda o: o)
    photo = images / json.loads(truth.read_text())["images"][0]["file_name"]
    photo.unlink()
    write_png(photo, np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(DataError, match="is 48x64, but listed as 64x48"):
        evaluate(truth, path, images=images)
