from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError, Faults
from pipeline.formats.mvtec import read_defect_mask, read_mvtec
from pipeline.io.images import write_png

MakeProduct = Callable[..., Path]


def test_records_say_where_an_image_came_from(make_product: MakeProduct) -> None:
    dataset = read_mvtec([make_product({"crack": 1}, good_train=1, good_test=1)], Faults())
    assert dataset.categories == ("crack",)
    assert [(r.id, r.source_split, r.defect, r.file_name) for r in dataset.records] == [
        (1, "train", "good", "widget_train_good_000.png"),
        (2, "test", "crack", "widget_test_crack_000.png"),
        (3, "test", "good", "widget_test_good_000.png"),
    ]


def test_equal_stems_in_different_folders_get_different_names(make_product: MakeProduct) -> None:
    products = [make_product(name="widget"), make_product(name="gadget")]
    names = [record.file_name for record in read_mvtec(products, Faults()).records]
    assert len(set(names)) == len(names) == 24


def spoil(root: Path, how: str) -> None:
    image = root / "test" / "crack" / "000.png"
    mask = root / "ground_truth" / "crack" / "000_mask.png"
    if how == "mask without image":
        image.unlink()
    elif how == "image without mask":
        mask.unlink()
    elif how == "empty class":
        (root / "test" / "hollow").mkdir()
    elif how == "broken png":
        image.write_bytes(b"\x89PNG")
    elif how == "equal names":
        (image.parent / "000.bmp").write_bytes(image.read_bytes())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("mask without image", r"000_mask\.png: has no image in .*; add its image or remove it"),
        ("image without mask", r"000\.png: has no mask .*; draw one, or move the image"),
        ("empty class", r"hollow: holds no image; remove the folder or fill it"),
        ("broken png", r"000\.png: is not a readable image"),
        ("equal names", r"000\.png: has the same name as .*; rename one"),
    ],
)
def test_a_fault_is_one_line_with_path_and_remedy_or_passed_over(
    make_product: MakeProduct, how: str, message: str
) -> None:
    root = make_product()
    spoil(root, how)
    with pytest.raises(DataError) as raised:
        read_mvtec([root], Faults())
    assert re.search(message, str(raised.value))
    assert "\n" not in str(raised.value)
    kept = Faults(keep_going=True)
    assert len(read_mvtec([root], kept).records) in {11, 12}
    assert re.search(message, str(kept.errors[0]))


def test_a_missing_folder_and_another_layout_have_different_messages(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_mvtec([tmp_path / "nowhere"], Faults())
    with pytest.raises(DataError, match="not in MVTec layout"):
        read_mvtec([tmp_path], Faults())


def test_a_mask_of_another_size_names_both_sizes(make_product: MakeProduct) -> None:
    root = make_product({"crack": 1})
    write_png(root / "ground_truth" / "crack" / "000_mask.png", np.zeros((10, 20), np.uint8))
    dataset = read_mvtec([root], Faults())
    record = next(record for record in dataset.records if record.masks)
    with pytest.raises(DataError, match=r"is 20x10 but its image 000\.png is 64x48"):
        read_defect_mask(record)
