from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_files import mask as draw_mask
from layout_files import photo

from pipeline.config.schema import ConvertConfig
from pipeline.errors import DataError
from pipeline.io.images import write_png
from pipeline.io.mask_files import read_mask_values
from pipeline.metrics.fidelity_totals import FormatFidelity
from pipeline.results import from_json
from pipeline.stages.convert_masks import ConvertMasksResult, convert_masks

MakeProduct = Callable[..., Path]


def test_the_result_counts_what_was_lost(make_product: MakeProduct, tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[5:20, 5:20] = 255
    mask[10:15, 10:15] = 0  # a hole
    mask[40, 60] = 255  # a speck
    product = make_product({"crack": 2}, mask=mask)
    config = ConvertConfig(min_area=5)
    found = convert_masks([product], tmp_path / "out", config)
    assert found.instances == 2
    assert found.specks_dropped == 2
    assert (found.pixels_in_masks, found.pixels_in_coco) == (402, 400)
    assert {row.iou_min for row in found.fidelity.values()} == {1.0}


def test_by_default_nothing_is_lost(make_product: MakeProduct, tmp_path: Path) -> None:
    found = convert_masks([make_product()], tmp_path / "out", ConvertConfig())
    assert found.pixels_in_masks == found.pixels_in_coco == 6 * 24
    assert from_json(ConvertMasksResult, found.to_json(), tmp_path) == found
    assert found.specks_dropped == 0
    assert found.fidelity["coco"] == FormatFidelity(
        instances=6, iou_mean=1.0, iou_min=1.0, changed=0, lost=0
    )


def test_an_empty_mask_is_reported_and_its_image_kept(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 1}, mask=np.zeros((48, 64), np.uint8))
    found = convert_masks([product], tmp_path / "out", ConvertConfig())
    assert len(found.defect_images_without_instance) == 1
    assert found.images == 7


def test_png_masks_number_the_instances(make_product: MakeProduct, tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[2:4, 2:4] = mask[30:33, 30:33] = 255
    convert_masks([make_product({"crack": 1}, mask=mask)], tmp_path / "out", ConvertConfig())
    path = next((tmp_path / "out" / "masks").rglob("*.png"))
    values, counts = np.unique(read_mask_values(path), return_counts=True)
    assert dict(zip(values, counts, strict=True)) == {0: 48 * 64 - 13, 1: 4, 2: 9}


def test_the_same_input_gives_the_same_bytes(make_product: MakeProduct, tmp_path: Path) -> None:
    product = make_product()
    for name in ("one", "two"):
        convert_masks([product], tmp_path / name, ConvertConfig(folds=2))
    files = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()}
    assert len(files) > 40
    for file in files - {Path("run.json")}:  # which holds the time it took
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(make_product: MakeProduct, tmp_path: Path) -> None:
    product = make_product({"crack": 12, "stain": 9})
    convert_masks([product], tmp_path / "one", ConvertConfig(folds=2))
    convert_masks([product], tmp_path / "two", ConvertConfig(folds=2), workers=2)
    names = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()}
    assert len(names) > 80
    for name in names - {Path("run.json")}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_faults_are_the_same_in_one_process_and_in_two(
    make_product: MakeProduct, tmp_path: Path, workers: int
) -> None:
    product = make_product({"crack": 20})
    for number in (3, 17):
        (product / "ground_truth" / "crack" / f"{number:03d}_mask.png").write_bytes(b"broken")
    found = convert_masks(
        [product], tmp_path / "out", ConvertConfig(), keep_going=True, workers=workers
    )
    assert [Path(fault.split(":")[0]).name for fault in found.faults] == [
        "003_mask.png",
        "017_mask.png",
    ]
    assert found.images == 24


def test_masks_with_soft_edges_are_counted_and_a_threshold_hardens_them(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[10:14, 20:26] = 255
    mask[10:14, 26] = 60
    mask[30, 40] = 3  # a speck of compression
    product = make_product({"crack": 2}, mask=mask)
    soft = convert_masks([product], tmp_path / "soft", ConvertConfig())
    assert (soft.masks_with_grey_values, soft.instances) == (2, 4)
    hard = convert_masks([product], tmp_path / "hard", ConvertConfig(mask_threshold=127))
    assert (hard.masks_with_grey_values, hard.instances) == (0, 2)
    assert hard.pixels_in_coco == 48


def test_a_split_file_is_reused_for_more_pictures_or_other_formats(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product()
    convert_masks([product], tmp_path / "a", ConvertConfig(seed=3))
    again = ConvertConfig(seed=9, split_file=tmp_path / "a" / "split.json")
    convert_masks([product], tmp_path / "b", again)
    first, second = ((tmp_path / n / "split.json").read_bytes() for n in "ab")
    assert first == second


def test_several_products_share_one_set(make_product: MakeProduct, tmp_path: Path) -> None:
    products = [make_product({"crack": 2}), make_product({"dent": 3}, name="gadget")]
    found = convert_masks(products, tmp_path / "out", ConvertConfig())
    assert found.categories == ("crack", "dent")
    raw = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    assert {image["product"] for image in raw["images"]} == {"widget", "gadget"}


def test_a_fault_leaves_nothing_behind(make_product: MakeProduct, tmp_path: Path) -> None:
    product = make_product()
    (product / "ground_truth" / "crack" / "001_mask.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"001_mask\.png: is not a readable image"):
        convert_masks([product], tmp_path / "out", ConvertConfig())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["widget"]
    found = convert_masks([product], tmp_path / "out", ConvertConfig(), keep_going=True)
    assert len(found.faults) == 1
    assert found.images == 11


@pytest.mark.slow
def test_coco_with_masks_does_in_place_of_a_product(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    """A converted set is converted again to the same rows and splits; without splits, its images
    are split again."""
    first = convert_masks([make_product()], tmp_path / "a", ConvertConfig(polygons=False))
    again = convert_masks([tmp_path / "a"], tmp_path / "b", ConvertConfig())
    names = ("instances.json", "instances_train.json", "instances_test.json")
    rows = [
        json.loads((tmp_path / folder / "annotations" / name).read_text())["annotations"]
        for name in names
        for folder in ("a", "b")
    ]
    assert rows[::2] == rows[1::2]
    assert len(rows[0]) == first.instances
    same = ("images", "instances", "splits", "categories", "pixels_in_masks", "pixels_in_coco")
    assert [getattr(again, key) for key in same] == [getattr(first, key) for key in same]
    raw = json.loads((tmp_path / "a" / "annotations" / "instances.json").read_text())
    for entry in raw["images"]:
        for key in ("split", "group", "defect", "source_split", "product"):
            entry.pop(key, None)
    (tmp_path / "bare.json").write_text(json.dumps(raw))
    images = tmp_path / "a" / "images"
    named = convert_masks([tmp_path / "bare.json"], tmp_path / "c", ConvertConfig(), images=images)
    assert named.splits == first.splits  # by their folders
    for entry in raw["images"]:
        entry["file_name"] = f"images/{entry['file_name']}"
    (tmp_path / "far.json").write_text(json.dumps(raw))
    far, images = [tmp_path / "far.json"], tmp_path / "a"
    dealt = convert_masks(far, tmp_path / "d", ConvertConfig(), images=images)
    assert dealt.instances == first.instances
    assert set(dealt.splits) == {"train", "val", "test"}
    assert dealt.splits["test"].good < dealt.splits["test"].images


def test_images_of_one_name_in_two_splits_are_two(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    convert_masks([make_product()], tmp_path / "a", ConvertConfig())
    path = tmp_path / "a" / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    first = next(entry for entry in raw["images"] if entry["split"] == "train")
    other = next(entry for entry in raw["images"] if entry["split"] == "val")
    twin = tmp_path / "a" / "images" / "val" / Path(first["file_name"]).name
    (tmp_path / "a" / "images" / other["file_name"]).rename(twin)
    other["file_name"] = f"val/{twin.name}"
    (path.parent / "twins.json").write_text(json.dumps(raw))
    found = convert_masks([path.parent / "twins.json"], tmp_path / "b", ConvertConfig())
    assert found.images == len(raw["images"])


def test_coco_that_cannot_be_converted_is_one_line(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    convert_masks([make_product()], tmp_path / "a", ConvertConfig())
    path = tmp_path / "a" / "annotations" / "instances.json"
    raw = json.loads(path.read_text())
    with pytest.raises(DataError, match="no such image; give their folder with --images"):
        convert_masks([path], tmp_path / "b", ConvertConfig(), images=tmp_path)
    raw["images"][0]["width"] += 1
    (path.parent / "wide.json").write_text(json.dumps(raw))
    kept = convert_masks(
        [path.parent / "wide.json"], tmp_path / "c", ConvertConfig(), keep_going=True
    )
    assert len(kept.faults) == 1
    assert "is 64x48, but listed as 65x48" in kept.faults[0]
    for row in raw["annotations"]:
        del row["segmentation"]
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError, match="has boxes without masks"):
        convert_masks([path], tmp_path / "d", ConvertConfig())


def test_masks_whose_defects_are_black_are_named(tmp_path: Path) -> None:
    """4 x 5 = 20 black pixels on 16 x 20 white ones: 300 are above 0."""
    photo(tmp_path / "images" / "a.png")
    draw_mask(tmp_path / "masks" / "a.png")
    folders: dict[str, Any] = {
        "images": tmp_path / "images",
        "masks": tmp_path / "masks",
        "workers": 1,
    }
    assert convert_masks([], tmp_path / "right", **folders).mostly_defect == 0
    white = 255 - read_mask_values(tmp_path / "masks" / "a.png")
    write_png(tmp_path / "masks" / "a.png", white)
    result = convert_masks([], tmp_path / "inverted", **folders)
    assert (result.mostly_defect, result.pixels_in_masks) == (1, 300)
    assert any("where black is the defect, invert them" in note for note in result.notes)
