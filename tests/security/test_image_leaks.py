"""Images come from the folders that were named: what a label file names elsewhere stays there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.schema import ConvertConfig, ExportConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.image_files import NamedFolders, image_file, leave_out_leaks
from pipeline.io.images import write_png
from pipeline.io.mask_files import MaskSource
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.export_labels import export_labels, import_labels
from pipeline.types import Dataset, ImageRecord

PIXELS = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "photo.png"
    write_png(path, PIXELS)
    return path


def coco(folder: Path, name: str = "a.png") -> Path:
    """A set of one image without objects."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entry = {"id": 1, "file_name": name, "height": 4, "width": 6}
    path = folder / "set.json"
    path.write_text(json.dumps({"images": [entry], "annotations": [], "categories": []}))
    return path


def labelme(folder: Path, image: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"shapes": [{"label": "x", "points": [[0, 0], [2, 0], [2, 2]]}],
               "imagePath": image, "imageHeight": 4, "imageWidth": 6}  # fmt: skip
    (folder / "a.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("parts", [0, 1])
def test_a_link_that_leads_outside_is_refused_unless_it_is_allowed(
    tmp_path: Path, private: Path, parts: int
) -> None:
    """The link is the image itself, or a folder above it."""
    name = ("a.png", "sub/photo.png")[parts]
    source = coco(tmp_path / "set", name)
    link = source.parent / "images" / name.split("/")[0]
    link.symlink_to((private, private.parent)[parts])
    with pytest.raises(DataError, match=r"outside .*--images, or give --allow-outside"):
        export_labels(source, "voc", tmp_path / "out", ExportConfig())
    assert not (tmp_path / "out").exists()
    found = export_labels(source, "voc", tmp_path / "out", ExportConfig(), allow_outside=True)
    assert found.images == 1


def test_convert_masks_refuses_the_same_link(tmp_path: Path, private: Path) -> None:
    source = coco(tmp_path / "set")
    (source.parent / "images" / "a.png").symlink_to(private)
    with pytest.raises(DataError, match="--allow-outside"):
        convert_masks([source], tmp_path / "out", ConvertConfig())
    convert_masks([source], tmp_path / "out", ConvertConfig(val=0, test=0), allow_outside=True)


@pytest.mark.parametrize("absolute", [False, True])
def test_labelmes_image_path_outside_its_folder_needs_images_or_leave(
    tmp_path: Path, private: Path, absolute: bool
) -> None:
    root = labelme(tmp_path / "labels", str(private) if absolute else "../home/photo.png")
    with pytest.raises(DataError, match="--images"):
        import_labels(root, "labelme", tmp_path / "out", ExportConfig())
    import_labels(root, "labelme", tmp_path / "out", ExportConfig(), images=private.parent)
    import_labels(root, "labelme", tmp_path / "two", ExportConfig(), allow_outside=True)
    assert (tmp_path / "two" / "images" / "photo.png").is_file()


def text(path: Path) -> None:
    path.write_text("root:x:0:0")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def gif(path: Path) -> None:
    Image.new("RGB", (6, 4)).save(path, format="GIF")


def other_size(path: Path) -> None:
    write_png(path, np.zeros((5, 6, 3), np.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text, "is not a readable image"),
        (pipe, "is not a regular file"),
        (folder, "is not a regular file"),
        (gif, "is a GIF file, not PNG"),
        (other_size, "is 6x5, but listed as 6x4"),
    ],
)
def test_only_images_are_taken(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    source = coco(tmp_path / "set")
    make(source.parent / "images" / "a.png")
    with pytest.raises(DataError, match=message):
        export_labels(source, "coco", tmp_path / "out", ExportConfig(), allow_outside=True)
    assert not (tmp_path / "out").exists()


def test_an_image_that_exif_turns_is_taken_as_before(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.new("RGB", (6, 4)).save(path, exif=exif)
    record = ImageRecord(1, path, "a.jpg", height=6, width=4)
    taken = leave_out_leaks(Dataset((), (record,)), [tmp_path], False, Faults())
    assert taken.records == (record,)


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 300, "../a.png", "/a.png", ".."])
def test_an_image_file_is_a_name_below_its_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        image_file(tmp_path, name)
    assert "\n" not in str(caught.value)
    assert image_file(tmp_path, "sub/a.png") == tmp_path / "sub" / "a.png"


def test_a_loop_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match=r"cannot be resolved|outside"):
        NamedFolders([tmp_path]).refuse_outside(tmp_path / "a" / "c.png")


def test_a_mask_outside_is_refused_with_its_image(tmp_path: Path, private: Path) -> None:
    write_png(tmp_path / "set" / "a.png", PIXELS)
    path = tmp_path / "set" / "a.png"
    record = ImageRecord(1, path, "a.png", 4, 6, masks=(MaskSource(private, "crack"),))
    with pytest.raises(DataError, match=r"photo\.png.*outside"):
        leave_out_leaks(Dataset((), (record,)), [tmp_path / "set"], False, Faults())
