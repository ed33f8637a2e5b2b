"""Roboflow's semantic masks, and its exports without masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from layout_files import BOX, OTHER, areas, photo
from PIL import Image

from pipeline.config.labels import ConvertConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.layouts import read_products, recognise
from pipeline.formats.layouts.label_maps import parse_categories
from pipeline.formats.layouts.mask_folders import MaskFolders, read_mask_folders
from pipeline.formats.record_masks import InstanceOptions, read_instances
from pipeline.io.images import write_png
from pipeline.io.mask_files import COLOUR
from pipeline.stages.convert_masks import convert_masks

TABLE = "Pixel Value, Class\n0, background\n1, crack\n2, stain\n"


def draw(folder: Path, name: str, first: int = 0, second: int = 0, table: str = TABLE) -> None:
    """A photo and its mask: 2 x 3 = 6 pixels of one value, 4 x 5 = 20 of another."""
    write_png(folder / f"{name}.png", np.full((20, 30, 3), 90, np.uint8))
    values = np.zeros((20, 30), np.uint8)
    values[2:4, 2:5], values[10:14, 10:15] = first, second
    write_png(folder / f"{name}_mask.png", values)
    (folder / "_classes.csv").write_text(table)


def draw_set(root: Path) -> Path:
    for split in ("train", "valid", "test"):
        draw(root / split, "x_jpg.rf.1", 1, 2)
        draw(root / split, "y_jpg.rf.2")
    return root


def test_a_split_without_images_is_read(tmp_path: Path) -> None:
    draw(tmp_path / "train", "a", 1)
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "_classes.csv").write_text(TABLE)
    assert len(read_products([tmp_path], Faults()).records) == 1


def test_masks_keep_their_categories_and_a_black_mask_is_good(tmp_path: Path) -> None:
    root = draw_set(tmp_path)
    assert recognise(root).name == "Roboflow semantic masks"
    dataset = read_products([root], Faults())
    assert dataset.categories == ("crack", "stain")
    read = [read_instances(record, InstanceOptions()) for record in dataset.records]
    found = [
        [(name, patch.area) for name, patch in zip(own.categories, own.patches, strict=True)]
        for own in read
    ]
    assert found == [[("crack", 6), ("stain", 20)], []] * 3


def test_splits_are_those_of_roboflow(tmp_path: Path) -> None:
    result = convert_masks(
        [draw_set(tmp_path / "set")], tmp_path / "out", ConvertConfig(group_by="none"), workers=1
    )
    counts = {name: (split.images, split.instances) for name, split in result.splits.items()}
    assert counts == {"train": (2, 2), "val": (2, 2), "test": (2, 2)}


def test_one_split_alone_is_split_again(tmp_path: Path) -> None:
    root = draw_set(tmp_path)
    assert {record.split for record in read_products([root / "train"], Faults()).records} == {""}


def test_a_value_without_a_name_asks_for_a_row_of_the_table(tmp_path: Path) -> None:
    draw(tmp_path / "train", "a", 7)
    record = read_products([tmp_path], Faults()).records[0]
    with pytest.raises(DataError, match=r"has value 7, .*add a row of 7 .*_classes\.csv"):
        read_instances(record, InstanceOptions())


RED, GREY = (200, 30, 0), (128, 128, 128)
COLOURS = "name,r,g,b\nVoid,0,0,0\ncrack,200,30,0\nstain,128,128,128\n"


def draw_colours(root: Path, is_palette: bool = False) -> None:
    """Images a and b; 4 x 5 = 20 pixels of red on the mask of a, and 2 x 5 = 10 of grey on both."""
    for name, colour in (("a", RED), ("b", (0, 0, 0))):
        photo(root / "images" / f"{name}.png")
        pixels = np.zeros((16, 20, 3), np.uint8)
        pixels[BOX], pixels[OTHER] = colour, GREY
        (root / "masks").mkdir(exist_ok=True)
        picture = Image.fromarray(pixels)
        picture = picture.quantize(3) if is_palette else picture
        picture.save(root / "masks" / f"{name}.png")


LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncrack:200,30,0::\n"


@pytest.mark.parametrize(
    "place", ["labelmap.txt", "class_dict.csv", "masks/_classes.csv", "masks/CLASS_DICT.csv"]
)
@pytest.mark.parametrize("is_palette", [False, True])
def test_a_table_of_colours_beside_masks_names_their_categories(
    tmp_path: Path, place: str, is_palette: bool
) -> None:
    draw_colours(tmp_path, is_palette)
    is_map = place == "labelmap.txt"
    (tmp_path / place).write_text(LABEL_MAP + "stain:128,128,128::\n" if is_map else COLOURS)
    listing = read_mask_folders(MaskFolders(tmp_path / "images", tmp_path / "masks"), Faults())
    assert areas(listing.dataset) == {"a.png": [("stain", 10), ("crack", 20)],
                                      "b.png": [("stain", 10)]}  # fmt: skip
    assert any("the categories are those of" in note for note in listing.notes)


def test_a_colour_without_a_name_asks_for_a_row_of_the_table(tmp_path: Path) -> None:
    draw_colours(tmp_path)
    (tmp_path / "class_dict.csv").write_text("name,r,g,b\ncrack,200,30,0\n")
    listing = read_mask_folders(MaskFolders(tmp_path / "images", tmp_path / "masks"), Faults())
    text = r"value #808080, .* add a row of #808080 and its name to .*class_dict\.csv"
    with pytest.raises(DataError, match=text):
        read_instances(listing.dataset.records[0], InstanceOptions())


def test_folders_of_images_and_masks_with_a_table_are_no_split_of_roboflow(tmp_path: Path) -> None:
    draw_colours(tmp_path)
    for name in "ab":
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}_mask.png")
    (tmp_path / "class_dict.csv").write_text(COLOURS)
    assert recognise(tmp_path).name == "images and masks"
    assert read_products([tmp_path], Faults()).categories == ("crack", "stain")


def test_a_table_of_colours_is_a_file_of_categories(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("Name, Red, Green, Blue\ncrack, 200, 30, 0\nrust, 9, 9, 9\n")
    assert parse_categories(str(tmp_path / "x.csv")).values == (
        (9, "rust"), (COLOUR | 0x090909, "rust"), (COLOUR | 0xC81E00, "crack")
    )  # fmt: skip


def test_roboflows_split_may_have_a_table_of_colours(tmp_path: Path) -> None:
    draw(tmp_path / "train", "a", 0, 128, COLOURS)
    record = read_products([tmp_path], Faults()).records[0]
    assert read_instances(record, InstanceOptions()).categories == ("stain",)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("name,r,g,b\ncrack,0,0,0\n", "calls colour 0,0,0 'crack', but what is black"),
        ("Pixel Value, Class\n0, crack\n1, dent\n", "calls pixel value 0 'crack', but"),
        ("name,r,g,b\ncrack,0,0,256\n", "'0,0,256' is no pixel value"),
        ("name,r,g,b\na,0,0,9\nb,0,0,9\n", "names colour 0,0,9 twice"),
        ("Pixel Value, Class\n0, background\n", "names no category"),
        ("Pixel Value, Class\n1, crack\n1, dent\n", "names pixel value 1 twice"),
        ("Pixel Value, Class\n-1, crack\n", "'-1' is no pixel value"),
        ("filename, crack\na.jpg, 1\n", "has no column Pixel Value, and none of r, g and b"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, table: str, text: str) -> None:
    draw(tmp_path / "train", "a", 1, table=table)
    with pytest.raises(DataError, match=f"_classes.csv: {text}"):
        read_products([tmp_path], Faults())


def test_an_image_without_mask_is_a_fault(tmp_path: Path) -> None:
    draw(tmp_path / "train", "a", 1)
    draw(tmp_path / "train", "b", 1)
    (tmp_path / "train" / "b_mask.png").unlink()
    with pytest.raises(DataError, match=r"train/b\.png: has no mask .*b_mask\.png"):
        read_products([tmp_path], Faults())


def test_a_coco_or_yolo_root_is_refused_with_the_command_that_reads_it(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write_png(tmp_path / "coco" / split / "a.png", np.full((20, 30, 3), 90, np.uint8))
        write_png(tmp_path / "yolo" / split / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
        content: dict[str, list[object]] = {"images": [], "annotations": [], "categories": []}
        (tmp_path / "coco" / split / "_annotations.coco.json").write_text(json.dumps(content))
    (tmp_path / "yolo" / "data.yaml").write_text("train: ../train/images\nnames: [a]\n")
    for origin in ("coco", "yolo"):
        text = f"holds no masks of pixels but .*pipeline import .* --from {origin} -o labels"
        with pytest.raises(DataError, match=text):
            recognise(tmp_path / origin)


def test_a_product_with_labels_beside_its_photos_is_still_a_product(tmp_path: Path) -> None:
    for name in ("train/good/0", "test/good/0", "test/crack/0"):
        write_png(tmp_path / f"{name}.png", np.full((20, 30, 3), 90, np.uint8))
    (tmp_path / "test" / "crack" / "0.json").write_text('{"shapes": []}')
    assert recognise(tmp_path).name == "MVTec AD"


def test_labels_of_this_program_are_not_imported_again(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text("{}")
    with pytest.raises(DataError, match=r"give what pipeline convert-masks .* writes"):
        recognise(tmp_path)
