from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.config.schema import ConvertConfig, ExportConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.registry import FORMATS
from pipeline.io.images import read_image
from pipeline.metrics.fidelity_totals import FormatFidelity
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.export_labels import export_labels, import_labels

MakeProduct = Callable[..., Path]


@pytest.fixture
def converted(make_product: MakeProduct, tmp_path: Path) -> Path:
    """Discs of 20 pixels' radius, whose polygons can be simplified."""
    mask = np.zeros((48, 64), np.uint8)
    cv2.circle(mask, (30, 24), 20, 255, -1)
    product = make_product({"crack": 2, "stain": 1}, mask=mask)
    convert_masks([product], tmp_path / "set", ConvertConfig(group_by="none"))
    return tmp_path / "set"


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_comes_back_by_import(converted: Path, tmp_path: Path, name: str) -> None:
    sent = export_labels(converted, name, tmp_path / name, ExportConfig())
    assert sent.fidelity[name] == FormatFidelity(
        instances=3, iou_mean=1.0, iou_min=1.0, changed=0, lost=0
    )
    got = import_labels(tmp_path / name, name, tmp_path / f"{name} back", ExportConfig())
    assert (got.images, got.objects) == (sent.images, sent.objects) == (9, 3)
    assert got.categories == ("crack", "stain")
    raw = json.loads((tmp_path / f"{name} back" / "annotations" / "instances.json").read_text())
    areas = [row["area"] for row in raw["annotations"]]
    assert len(areas) == 3
    if name != "yolo":  # which holds boxes of 41 x 41
        assert len(set(areas)) == 1
        assert areas[0] < 41 * 41


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].needs_masks])
def test_boxes_alone_are_refused_by_a_format_of_masks(
    converted: Path, tmp_path: Path, name: str
) -> None:
    export_labels(converted, "yolo", tmp_path / "boxes", ExportConfig())
    import_labels(tmp_path / "boxes", "yolo", tmp_path / "coco", ExportConfig())
    with pytest.raises(DataError, match=f"has 3 objects that are boxes .* {name} cannot hold"):
        export_labels(tmp_path / "coco", name, tmp_path / "out", ExportConfig())
    assert not (tmp_path / "out").exists()


def test_only_images_with_an_object_of_low_confidence_are_exported_on_request(
    converted: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has an expected IoU or a score"):
        export_labels(converted, "cvat", tmp_path / "out", ExportConfig(below=0.5))
    path = converted / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    for row, expected in zip(raw["annotations"], (0.9, 0.4, 0.5), strict=True):
        row |= {"score": 0.1, "expected_iou": expected}
    path.write_text(json.dumps(raw))
    found = export_labels(converted, "cvat", tmp_path / "out", ExportConfig(below=0.5))
    assert (found.images, found.objects) == (1, 1)
    with pytest.raises(ConfigError, match="has a lower expected IoU or score; nothing to export"):
        export_labels(converted, "cvat", tmp_path / "none", ExportConfig(below=0.3))


def test_reviewed_images_are_merged_with_the_others(converted: Path, tmp_path: Path) -> None:
    """Three discs; of one image nothing is left after review, another's disc is called `new`."""
    path = converted / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    for row, expected in zip(raw["annotations"], (0.4, 0.9, 0.4), strict=True):
        row |= {"score": 0.1, "expected_iou": expected, "prompt_id": row["id"]}
    path.write_text(json.dumps(raw))
    export_labels(converted, "cvat", tmp_path / "out", ExportConfig(below=0.5))
    xml = tmp_path / "out" / "annotations.xml"
    text = re.sub(r"<mask.*?</mask>", "", xml.read_text(), count=1, flags=re.DOTALL)
    xml.write_text(text.replace('"stain"', '"new"').replace(">stain<", ">new<"))
    found = import_labels(
        tmp_path / "out", "cvat", tmp_path / "all", ExportConfig(), onto=converted
    )
    assert (found.images, found.objects) == (9, 2)
    assert found.categories == ("crack", "stain", "new")
    rows = json.loads((tmp_path / "all" / "annotations" / "instances.json").read_text())
    by_name = {row["category_id"]: row for row in rows["annotations"]}
    assert by_name[1]["expected_iou"] == 0.9  # not reviewed
    assert "score" not in by_name[3]  # reviewed
    train = converted / "annotations" / "instances_train.json"
    with pytest.raises(DataError, match="was reviewed, but --onto holds 0 images of that name"):
        import_labels(converted, "coco", tmp_path / "x", ExportConfig(), onto=train)


def test_the_report_has_totals_a_row_for_each_object_and_pictures_of_the_worst(
    converted: Path, tmp_path: Path
) -> None:
    config = ExportConfig(polygon_loss=0.1, min_iou=0.999)
    found = export_labels(converted, "yolo-segment", tmp_path / "out", config)
    assert found.exit_code == 1
    assert found.objects_below_min_iou == 3
    report = json.loads((tmp_path / "out" / "fidelity.json").read_text())
    total = report["formats"]["yolo-segment"]
    assert 0.9 <= total["iou_min"] < 0.999
    assert total["iou_min"] == found.fidelity["yolo-segment"].iou_min
    with (tmp_path / "out" / "fidelity.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    assert sum(int(row["area_read"]) for row in rows) == total["area_read"]
    pictures = sorted((tmp_path / "out" / "fidelity").iterdir())
    assert len(pictures) == len(report["worst"]) == 3
    assert read_image(pictures[0]).shape == (220, 220, 3)


def test_a_bound_that_is_kept_lets_the_command_pass(converted: Path, tmp_path: Path) -> None:
    config = ExportConfig(polygon_loss=0.02, min_iou=0.98)
    assert export_labels(converted, "coco-polygon", tmp_path / "o", config).exit_code == 0
    exact = ConvertConfig(min_iou=1.0)
    again = convert_masks([converted.parent / "widget"], tmp_path / "again", exact)
    assert again.exit_code == 0


def test_images_elsewhere_are_found_with_images_and_missed_in_one_line(
    converted: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "labels.json"
    moved.write_bytes((converted / "annotations" / "instances.json").read_bytes())
    with pytest.raises(DataError, match="no such image; give their folder with --images"):
        export_labels(moved, "voc", tmp_path / "out", ExportConfig())
    assert not (tmp_path / "out").exists()
    images = converted / "images"
    assert export_labels(moved, "voc", tmp_path / "out", ExportConfig(), images=images).images == 9


def test_an_unknown_format_is_answered_with_the_known(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such format; there are coco, .*voc"):
        export_labels(converted, "xls", tmp_path / "out", ExportConfig())


def test_a_folder_of_the_users_own_is_not_replaced(converted: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="holds files that this command did not write"):
        export_labels(converted, "png", tmp_path / "mine", ExportConfig())


@pytest.mark.parametrize("name", ["coco", "yolo-segment", "labelme"])
def test_a_copy_has_the_suffix_of_its_bytes_and_comes_back_onto_its_photo(
    converted: Path, tmp_path: Path, name: str
) -> None:
    # training tools skip .jfif: the photo is written as .jpg, as convert-masks writes it
    raw = json.loads((converted / "annotations" / "instances.json").read_text())
    raw["images"] = raw["images"][:2]
    own = [f"photo{row['id']}{suffix}" for row, suffix in zip(raw["images"], (".jfif", ".png"),
                                                              strict=True)]  # fmt: skip
    (tmp_path / "images").mkdir()
    for row, name_of in zip(raw["images"], own, strict=True):
        pixels = cv2.imread(str(converted / "images" / row["file_name"]))
        assert pixels is not None
        data = cv2.imencode(".jpg" if name_of.endswith("jfif") else ".png", pixels)[1]
        (tmp_path / "images" / name_of).write_bytes(data.tobytes())
        row["file_name"] = name_of
    kept = {row["id"] for row in raw["images"]}
    raw["annotations"] = [row for row in raw["annotations"] if row["image_id"] in kept]
    (tmp_path / "own.json").write_text(json.dumps(raw))
    export_labels(tmp_path / "own.json", name, tmp_path / "sent", images=tmp_path / "images")
    suffixes = {path.suffix for path in (tmp_path / "sent").rglob("photo*")} - {".json", ".txt"}
    assert suffixes == {".jpg", ".png"}
    back = import_labels(tmp_path / "sent", name, tmp_path / "back", onto=tmp_path / "own.json")
    assert back.images == 2
