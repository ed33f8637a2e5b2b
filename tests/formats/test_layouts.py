"""Folders of images beside folders of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layout_files import areas, mask, photo

from pipeline.errors import DataError, Faults
from pipeline.formats.layouts import read_products
from pipeline.formats.layouts.label_maps import CategoryNames, parse_categories
from pipeline.formats.layouts.mask_folders import FolderListing, MaskFolders, read_mask_folders
from pipeline.io.images import write_png


def pair(root: Path, **options: str | int) -> FolderListing:
    folders = MaskFolders(root / "images", root / "masks", **options)  # type: ignore[arg-type]
    return read_mask_folders(folders, Faults())


def test_the_common_suffix_of_masks_is_found_and_said(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / "images" / f"{number}.png")
    mask(tmp_path / "masks" / "1_GT.png")
    listing = pair(tmp_path)
    assert areas(listing.dataset) == {"0.png": [], "1.png": [("defect", 20)], "2.png": []}
    assert listing.without_mask == 2
    assert "the names of masks end in _GT" in listing.notes


@pytest.mark.parametrize(
    ("image", "name"), [("{}", "mask_{}"), ("image_{:03d}", "mask_{:03d}"), ("img{}", "GT-{}")]
)
def test_the_words_that_names_of_images_and_masks_begin_with_are_found_and_said(
    tmp_path: Path, image: str, name: str
) -> None:
    for number in (1, 2, 12):
        photo(tmp_path / "images" / f"{image.format(number)}.png")
    for number in (2, 12):
        mask(tmp_path / "masks" / f"{name.format(number)}.png")
    listing = pair(tmp_path)
    found = [len(rows) for rows in areas(listing.dataset).values()]
    assert (sorted(found), listing.without_mask) == ([0, 1, 1], 1)
    assert listing.notes[0].startswith(f"the names of masks begin with {name.partition('{')[0]}")


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["A.png"], ["a.PNG"]),
        (["IMG_01.png", "IMG_02.png"], ["img_01.png", "IMG_02.png"]),
        (["a.png", "b.png"], ["A_GT.png", "B_gt.png"]),
        (["a.png", "b.png"], ["a_GT.png", "B_gt.png"]),
        (["01.png", "02.png"], ["Mask_01.png", "mask_02.png"]),
        (["Image_01.png", "image_02.png"], ["mask_01.png", "Mask_02.png"]),
        (["A.png"], ["a/1.png"]),
    ],
)
def test_names_in_other_letters_are_paired_where_no_other_image_is_meant(
    tmp_path: Path, images: list[str], masks: list[str]
) -> None:
    for name in images:
        photo(tmp_path / "images" / name)
    for name in masks:
        mask(tmp_path / "masks" / name)
    assert areas(pair(tmp_path).dataset) == {name: [("defect", 20)] for name in images}


def test_masks_in_other_letters_are_said(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "A.png")
    mask(tmp_path / "masks" / "a.PNG")
    text = "1 masks have other capital letters in their names than their images, such as a.PNG of"
    assert any(note.startswith(text) for note in pair(tmp_path).notes)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["a.png", "A.png"], ["a.png", "A.PNG", "aA.png"]),  # the last has no image
        (["B.png", "x.png"], ["B.png", "b.png"]),  # B has its own mask
        (["aB.png", "x.png"], ["ab.png", "AB.png", "x.png"]),  # two for one image
    ],
)
def test_names_in_other_letters_are_no_pair_where_another_is_meant(
    tmp_path: Path, images: list[str], masks: list[str]
) -> None:
    for name in images:
        photo(tmp_path / "images" / name)
    for name in masks:
        mask(tmp_path / "masks" / name)
    with pytest.raises(DataError, match="has no image in"):
        pair(tmp_path)


@pytest.mark.parametrize(
    ("image", "own"),
    [
        ("test/crack/A.png", "ground_truth/crack/a_mask.png"),
        ("test/crack/a.png", "ground_truth/Crack/A_GT.png"),
        ("test/crack/a.png", "ground_truth/crack/A.PNG"),
        ("test/crack/a.png", "ground_truth/crack/A/0.png"),
        ("Data/Images/Anomaly/A.JPG.png", "Data/Masks/Anomaly/a.jpg.png"),
        ("train/Defect_images/A.png", "train/Mask_images/a_mask.png"),
        ("Train/A.png", "Train/Label/a_label.PNG"),
        ("train/A.png", "train/a_GT.png"),
    ],
)
def test_masks_of_a_layout_are_found_in_other_letters_and_said(
    tmp_path: Path, image: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr("pipeline.formats.layouts.letter_case.say", notes.append)
    root = tmp_path / "train" if "Defect" in image else tmp_path
    photo(tmp_path / image)
    mask(tmp_path / own)
    dataset = read_products([root], Faults())
    found = [area for rows in areas(dataset).values() for _, area in rows]
    assert found == [20]
    assert [note.partition(" in their")[0] for note in notes] == [
        "1 masks have other capital letters"
    ]


@pytest.mark.parametrize("name", ["right_1", "mask_3", "mask_"])
def test_a_name_that_begins_with_another_word_is_no_mask(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "images" / "left_1.png")
    mask(tmp_path / "masks" / f"{name}.png")
    with pytest.raises(DataError, match="has no image in"):
        pair(tmp_path)


def test_masks_of_a_product_may_have_another_suffix(tmp_path: Path) -> None:
    """`1_GT` and `12_GT` are masks of 1 and 12; a third image of the defect has none."""
    for name in ("1", "12"):
        photo(tmp_path / "test" / "crack" / f"{name}.png")
        mask(tmp_path / "ground_truth" / "crack" / f"{name}_GT.png")
    found = areas(read_products([tmp_path], Faults()))
    assert found == {"1.png": [("crack", 20)], "12.png": [("crack", 20)]}
    photo(tmp_path / "test" / "crack" / "3.png")
    with pytest.raises(DataError, match=r"3\.png: has no mask .*3_mask\.png"):
        read_products([tmp_path], Faults())


def test_two_suffixes_that_would_do_are_asked_for(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    photo(tmp_path / "images" / "a_left.png")
    mask(tmp_path / "masks" / "a_left_gt.png")
    with pytest.raises(DataError, match="suffix '_gt' or '_left_gt'; say which by --mask-suffix"):
        pair(tmp_path)
    assert areas(pair(tmp_path, suffix="_gt").dataset)["a_left.png"] == [("defect", 20)]


def test_a_mask_without_image_is_a_fault(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png")
    mask(tmp_path / "masks" / "b.png")
    with pytest.raises(DataError, match=r"masks/b\.png: has no image in"):
        pair(tmp_path)


def test_folders_of_masks_name_categories_and_folders_of_an_image_hold_its_instances(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        photo(tmp_path / "images" / f"{name}.png")
    mask(tmp_path / "masks" / "scratch" / "a.png")
    mask(tmp_path / "masks" / "b" / "001.png", 255, 255)  # one instance of two parts
    mask(tmp_path / "masks" / "dent" / "b" / "001.png", 0, 255)
    found = areas(pair(tmp_path).dataset)
    assert found == {"a.png": [("scratch", 20)], "b.png": [("defect", 30), ("dent", 10)]}


def test_values_are_categories_of_their_name_until_names_are_given(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", 1, 2)
    listing = pair(tmp_path)
    assert areas(listing.dataset) == {"a.png": [("1", 20), ("2", 10)]}
    assert listing.notes[0].startswith("values 1, 2 of the masks are taken as categories")
    assert areas(pair(tmp_path, categories="1=pit,2=").dataset) == {"a.png": [("pit", 20)]}
    assert areas(pair(tmp_path, meaning="instances").dataset) == {
        "a.png": [("defect", 20), ("defect", 10)]
    }
    with pytest.raises(DataError, match="has value 2, which no category has"):
        areas(pair(tmp_path, categories="1=pit").dataset)


def test_colours_without_red_are_named_as_colours_too(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    colours = np.zeros((16, 20, 3), np.uint8)
    colours[2:4, 2:7] = (0, 255, 0)  # 2 x 5 pixels; 0x00ff00 is 65280
    colours[10:14, 2:7] = (0, 0, 255)  # 4 x 5 pixels
    write_png(tmp_path / "masks" / "a.png", colours)
    areas_of = [("#0000ff", 20), ("#00ff00", 10)]
    assert sorted(areas(pair(tmp_path).dataset)["a.png"]) == areas_of
    with pytest.raises(DataError, match="has value #0000ff, which no category has"):
        areas(pair(tmp_path, categories="#00ff00=pit").dataset)


def test_categories_are_read_from_texts_and_files(tmp_path: Path) -> None:
    assert parse_categories("#ff0000=pit").values == ((0x1FF0000, "pit"),)
    assert parse_categories("pit") == CategoryNames(single="pit")
    for name, text in {
        "a.txt": "0 background\n1 pit\n2: dent\n",
        "a.json": '{"pit": 1, "dent": 2}',
        "b.json": '{"1": "pit", "2": "dent"}',
    }.items():
        (tmp_path / name).write_text(text)
        assert parse_categories(str(tmp_path / name)).values == ((1, "pit"), (2, "dent"))
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\npit:128,0,0::\n")
    assert parse_categories(str(tmp_path / "labelmap.txt")).values == ((0x1800000, "pit"),)


def test_mvtecs_masks_are_found_by_a_suffix_of_any_case(tmp_path: Path) -> None:
    root = tmp_path / "bottle"
    for name in ("train/good/000", "test/good/000", "test/broken/000", "test/broken/001"):
        photo(root / f"{name}.png")
    mask(root / "ground_truth/broken/000_Mask.png")
    mask(root / "ground_truth/broken/001_MASK.PNG")
    listed = read_products([root], Faults())
    found = {record.path.stem: len(record.masks) for record in listed.records if record.masks}
    assert found == {"000": 1, "001": 1}
    mask(root / "ground_truth/broken/000_mask.png")
    with pytest.raises(DataError, match=r"has two masks, 000_Mask.png and 000_mask.png"):
        read_products([root], Faults())


def test_black_masks_are_good_images(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", 0, 0)
    listing = pair(tmp_path)
    assert [record.defect for record in listing.dataset.records] == ["good"]
    assert listing.notes == ("1 images have black masks: they are good",)


def test_masks_below_the_threshold_are_not_called_black(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", 0, 100)
    listing = pair(tmp_path, threshold=127)
    assert [record.defect for record in listing.dataset.records] == ["good"]
    assert listing.notes[-1] == (
        "1 images have masks without a value above --mask-threshold 127: they are taken as good; "
        "their highest value is 100"
    )
