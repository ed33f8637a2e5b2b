"""Which images convert-masks keeps in one split, and what it says of a split that leaks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.config.schema import ConvertConfig
from pipeline.formats.converted_set import leak_mark
from pipeline.reports.grouping import LeakCounts
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.report import report

MakeProduct = Callable[..., Path]


def test_copies_of_one_image_stay_in_one_split(make_product: MakeProduct, tmp_path: Path) -> None:
    product = make_product({"crack": 6, "stain": 6})
    copied = [shutil.copy(product / "test" / "crack" / "000.png", product / "test" / name)
              for name in ("stain/004.png", "good/001.png")]  # fmt: skip
    found = convert_masks([product], tmp_path / "out", ConvertConfig())
    assert len(copied) + 1 == found.groups.images == found.groups.largest
    assert found.leaks == LeakCounts(images=0, held_out=found.splits["test"].images)


def test_a_given_split_that_leaks_is_kept_named_and_drawn(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 6})
    config = ConvertConfig(group_by="none")
    convert_masks([product], tmp_path / "a", config)
    names = json.loads((tmp_path / "a" / "split.json").read_text())["splits"]
    test = next(name for name, split in names.items() if split == "test" and "crack" in name)
    train = next(name for name, split in names.items() if split == "train" and "crack" in name)
    folder = product / "test" / "crack"
    shutil.copy(folder / Path(train).name, folder / Path(test).name)
    again = config.model_copy(
        update={"split_file": tmp_path / "a" / "split.json", "group_by": "near-duplicates"}
    )
    found = convert_masks([product], tmp_path / "b", again)
    assert json.loads((tmp_path / "b" / "split.json").read_text())["splits"] == names
    assert found.leaks.images == 1
    example = (
        f"test/widget_test_crack_{Path(test).name} = train/widget_test_crack_{Path(train).name}"
    )
    assert found.leaks.examples == (example,)
    assert (tmp_path / "b" / "leaks.png").is_file()
    assert "the split leaks: 1 of" in found.notes[-1]
    assert "the split leaks: 1 of" in str(leak_mark(tmp_path / "b"))
    assert leak_mark(tmp_path / "a") is None
    (tmp_path / "run").mkdir()
    (tmp_path / "b").rename(tmp_path / "run" / "data")
    page = report(tmp_path / "run").report.read_text()
    assert "<b>The split leaks:</b> 1 of" in page
    assert 'alt="pairs of held-out and training images of one object"' in page


def test_images_of_one_object_alone_cannot_be_split(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 3}, good_train=2)
    first = product / "test" / "crack" / "000.png"
    for path in product.rglob("*.png"):
        if "ground_truth" not in path.parts and path != first:
            shutil.copy(first, path)
    found = convert_masks([product], tmp_path / "out", ConvertConfig())
    assert set(found.splits) == {"train"}
    assert found.notes == (
        "the 7 images show one object: there is no test and val split, and no figure of this set "
        "holds for other objects; --group-by none splits by image",
    )


def test_one_image_is_converted_and_said_to_leave_nothing_to_test_on(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    found = convert_masks(
        [make_product({"crack": 1}, good_train=0, good_test=0)], tmp_path / "out", ConvertConfig()
    )
    assert found.images == 1
    assert "the only image: there is no test and val split" in found.notes[0]


def test_photos_that_cannot_be_decoded_are_said_to_be_left_alone(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 3})
    path = product / "test" / "crack" / "001.png"
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(len(data) - 80) + data[-20:])  # a header and an end
    found = convert_masks([product], tmp_path / "out", ConvertConfig())
    assert found.images == 9
    assert found.notes[0].startswith("1 images cannot be read, and are not compared, such as")


def test_groups_of_a_layout_and_of_copies_are_joined(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 4})
    table = tmp_path / "groups.csv"
    names = sorted(p.relative_to(product) for p in product.rglob("*.png"))
    images = [name for name in names if "ground_truth" not in name.parts]
    table.write_text("".join(f"{name.as_posix()},{row // 2}\n" for row, name in enumerate(images)))
    config = ConvertConfig(group_by=str(table))
    found = convert_masks([product], tmp_path / "out", config)
    assert (found.groups.by, found.groups.images, found.groups.groups) == ("file", 10, 5)
    again = convert_masks([tmp_path / "out"], tmp_path / "again", ConvertConfig())
    assert (again.groups.images, again.groups.groups) == (10, 5)  # COCO keeps them
