"""Folders as datasets are published."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout_files import areas, mask, photo

from pipeline.errors import DataError, Faults
from pipeline.formats.layouts import read_products, recognise
from pipeline.formats.record_masks import InstanceOptions, read_instances


def draw_ad2(root: Path) -> None:
    photo(root / "train" / "good" / "000_regular.png")
    photo(root / "validation" / "good" / "000_regular.png")
    photo(root / "test_public" / "bad" / "000_regular.png")
    mask(root / "test_public" / "ground_truth" / "bad" / "000_regular_mask.png")
    photo(root / "test_private" / "000.png")


def draw_btad(root: Path) -> None:
    for folder in ("train/ok", "test/ok", "test/ko"):
        photo(root / folder / "000.png")
    mask(root / "ground_truth" / "ko" / "000.png")


def draw_visa(root: Path) -> None:
    photo(root / "Data" / "Images" / "Normal" / "000.png")
    photo(root / "Data" / "Images" / "Anomaly" / "000.png")
    mask(root / "Data" / "Masks" / "Anomaly" / "000.png", 3)
    rows = f"image,label,mask\n{root.name}/Data/Images/Anomaly/000.png,burnt,x\n"
    (root / "image_anno.csv").write_text(rows)


def draw_sdd(root: Path) -> None:
    for name, value in (("Part0", 255), ("Part1", 0)):
        photo(root / "kos01" / f"{name}.png")
        mask(root / "kos01" / f"{name}_label.png", value)


def draw_sdd2(root: Path) -> None:
    for name, value in (("10301", 255), ("10302", 0)):
        photo(root / "train" / f"{name}.png")
        mask(root / "train" / f"{name}_GT.png", value)


def draw_dagm(root: Path) -> None:
    for name in ("0576", "0577"):
        photo(root / "Class1" / "Train" / f"{name}.png")
    mask(root / "Class1" / "Train" / "Label" / "0576_label.png")


def draw_aitex(root: Path) -> None:
    photo(root / "Defect_images" / "0044_019_04.png")
    photo(root / "NODefect_images" / "2306881-210020u" / "0000_000_01.png")
    mask(root / "Mask_images" / "0044_019_04_mask1.png")
    mask(root / "Mask_images" / "0044_019_04_mask2.png", 0, 255)


def draw_severstal(root: Path) -> None:
    for name in ("a", "b"):
        photo(root / "train_images" / f"{name}.png")
    # columns of 16: rows 2 to 5 of column 3 are pixels 3 * 16 + 3 = 51 to 54
    (root / "train.csv").write_text("ImageId,ClassId,EncodedPixels\na.png,3,51 4 67 4\n")


@pytest.mark.parametrize(
    ("draw", "name", "expected"),
    [
        (draw_ad2, "MVTec AD 2", {"good": [], "bad": [20]}),
        (draw_btad, "BTAD", {"good": [], "ko": [20]}),
        (draw_visa, "VisA", {"good": [], "burnt": [20]}),
        (draw_sdd, "KolektorSDD", {"good": [], "defect": [20]}),
        (draw_sdd2, "KolektorSDD2", {"good": [], "defect": [20]}),
        (draw_dagm, "DAGM 2007", {"good": [], "Class1": [20]}),
        (draw_aitex, "AITEX", {"good": [], "fuzzyball": [20, 10]}),
        (draw_severstal, "Severstal", {"good": [], "class_3": [8]}),
    ],
)
def test_a_published_layout_is_recognised_and_read(
    tmp_path: Path, draw: object, name: str, expected: dict[str, list[int]]
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    draw(root)  # type: ignore[operator]
    (root / "@eaDir").mkdir()
    (root / "Thumbs.db").write_bytes(b"x")
    assert recognise(root).name == name
    found = {}
    for record in read_products([root], Faults()).records:
        patches = read_instances(record, InstanceOptions()).patches
        found[record.defect] = [patch.area for patch in patches]
    assert found == expected


def test_severstals_earlier_table_is_read_and_a_wrong_run_names_image_and_class(
    tmp_path: Path,
) -> None:
    draw_severstal(tmp_path)
    table = tmp_path / "train.csv"
    table.write_text("ImageId_ClassId,EncodedPixels\na.png_1,\na.png_2,1 3\nb.png_1,\n")
    assert areas(read_products([tmp_path], Faults())) == {"a.png": [("class_2", 3)], "b.png": []}
    table.write_text("ImageId,ClassId,EncodedPixels\na.png,1,319 3\n")  # 16 x 20 = 320 pixels
    with pytest.raises(DataError, match=r"train\.csv: a\.png, class_1: its runs"):
        areas(read_products([tmp_path], Faults()))


def test_another_folder_is_refused_with_the_nearest_layout_and_what_it_lacks(
    tmp_path: Path,
) -> None:
    photo(tmp_path / "train_images" / "a.png")
    with pytest.raises(DataError, match=r"the nearest is Severstal, and it lacks train\.csv"):
        recognise(tmp_path)


@pytest.mark.parametrize("kind", ["VisA", "DAGM"])
def test_images_of_two_products_are_never_one_object(tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        if kind == "VisA":
            draw_visa(tmp_path / name)
        else:
            draw_dagm(tmp_path)
            (tmp_path / "Class1").rename(tmp_path / name)
    groups = [record.group for record in read_products([tmp_path], Faults()).records]
    assert len(groups) == len(set(groups)) == 4
