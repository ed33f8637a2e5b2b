"""Hostile values in Pascal VOC, CVAT, YOLO and MVTec: one line with the file and the
place, whatever the bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DataError, Faults
from pipeline.formats.mvtec import read_mvtec
from pipeline.formats.registry import FORMATS
from pipeline.formats.validation.yolo import YoloCheck, check_yolo
from pipeline.formats.yolo_reader import read_yolo
from pipeline.io.images import write_png
from pipeline.stages.validate import validate

MakeProduct = Callable[..., Path]
DEEP = 100_000


def refused(name: str, root: Path, *parts: str) -> None:
    """Reading ends in one line that names all `parts`."""
    with pytest.raises(DataError) as caught:
        FORMATS[name].read(root, None)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert len(message) < 1000
    message.encode()


def voc(size: str = "<height>20</height><width>30</width>", name: str = "crack",
        box: str = "1 1 5 6", filename: str = "a.png") -> str:  # fmt: skip
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=False)
    inner = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return (
        f"<annotation><filename>{filename}</filename><size>{size}</size>"
        f"<object><name>{name}</name><bndbox>{inner}</bndbox></object></annotation>"
    )


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (voc(box="1 1 inf 6"), ["object 1", "xmax", "'inf'"]),
        (voc(box="1 nan 5 6"), ["object 1", "ymin", "'nan'"]),
        (voc(box="1 1 1e300 6"), ["object 1", "xmax", "'1e300'"]),
        (voc(box="1 1 five 6"), ["object 1", "xmax", "'five'", "not a number"]),
        (voc(box="1 1 5"), ["object 1", "lacks ymax"]),
        (voc(name=""), ["object 1", "lacks name"]),
        (voc(filename=""), ["lacks filename"]),
        (voc(filename=".."), ["cannot hold an image"]),
        (voc("<height>20</height>"), ["no such image"]),
        (voc(f"<height>{'9' * 5000}</height><width>3</width>"), ["height", "which no image has"]),
        (voc(f"<height>{2**31}</height><width>3</width>"), ["no such image"]),
        (voc("<height>1000000</height><width>1100000</width>"), ["no such image"]),
        (voc("<height>-1</height><width>3</width>"), ["height", "'-1'"]),
        (voc("<height>0</height><width>3</width>"), ["no such image"]),
        (voc("<height>20.5</height><width>3</width>"), ["no such image"]),
        ("<a>" * DEEP + "</a>" * DEEP, ["is not Pascal VOC's XML"]),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', ["is not Pascal VOC's XML"]),
        ('<!DOCTYPE a [<!ENTITY e "x">]><annotation>&f;</annotation>', ["not readable XML"]),
        ("\x00\x01", ["is not Pascal VOC's XML"]),
        ("", ["is not Pascal VOC's XML"]),
    ],
)  # fmt: skip
def test_voc_names_the_object(tmp_path: Path, content: str, parts: list[str]) -> None:
    path = tmp_path / "Annotations" / "a.xml"
    path.parent.mkdir()
    path.write_text(content)
    refused("voc", tmp_path, str(path), *parts)


@pytest.mark.parametrize("name", ["ImageSets/Main/train.txt", "labelmap.txt"])
def test_vocs_lists_are_utf_8(tmp_path: Path, name: str) -> None:
    for place in ("Annotations/a.xml", name):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "Annotations" / "a.xml").write_text(voc())
    (tmp_path / name).write_bytes("Öl".encode("latin-1"))
    refused("voc", tmp_path, str(tmp_path / name), "is not UTF-8")


def test_a_voc_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(voc())
    write_png(tmp_path / "SegmentationObject" / "a.png", np.ones((4, 5), np.uint8))
    refused("voc", tmp_path, "SegmentationObject/a.png", "30x20")


def cvat(shape: str, size: str = 'width="30" height="20"', name: str = "a.png") -> str:
    return f'<annotations><image name="{name}" {size}>{shape}</image></annotations>'


def mask(rle: str, sides: str = 'left="1" top="1" width="2" height="3"') -> str:
    return cvat(f'<mask label="crack" {sides} rle="{rle}"/>')


def polygon(points: str) -> str:
    return cvat(f'<polygon label="crack" points="{points}"/>')


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (mask("0, 6, -3, 3"), ["'a.png'", "mask 1", "do not add up to 2x3"]),
        (mask("0, 5"), ["'a.png'", "mask 1", "do not add up"]),
        (mask("0, 99999999999999999999"), ["mask 1", "not whole numbers"]),
        (mask(", ".join(["9223372036854775807"] * 3)), ["mask 1", "do not add up"]),
        (mask("0, nan"), ["mask 1", "not whole numbers"]),
        (mask(""), ["mask 1", "lacks rle"]),
        (mask("0, 1000000000000", 'left="0" top="0" width="1000000" height="1000000"'),
         ["mask 1", "1000000x1000000 pixels on an image of 30x20"]),
        (mask("0, 6", 'left="0" top="0" width="-2" height="-3"'), ["mask 1", "-2x-3"]),
        (mask("0, 6", 'left="inf" top="0" width="2" height="3"'), ["mask 1", "left", "'inf'"]),
        (mask("0, 6", 'left="500" top="0" width="2" height="3"'), ["mask 1", "outside an image"]),
        (mask("0, 6", 'left="0" width="2" height="3"'), ["mask 1", "lacks top"]),
        (polygon("1,1;1e300,5;5,9"), ["'a.png'", "polygon 1", "'1e300'"]),
        (polygon("1,1;1e9,5;5,9"), ["polygon 1", "far outside an image of 30x20"]),
        (polygon("1,1;nan,5;5,9"), ["polygon 1", "'nan'"]),
        (polygon("1,1;5;5,9"), ["polygon 1", "not pairs"]),
        (polygon(""), ["polygon 1", "lacks points"]),
        (polygon(";".join(["-30,-20;60,40"] * 100_000)), ["polygon 1", "pixels long"]),
        (cvat('<box label="crack" xtl="1" ytl="1" xbr="-inf" ybr="3"/>'), ["box 1", "xbr"]),
        (cvat('<box label="crack" xtl="1" ytl="1" xbr="4"/>'), ["box 1", "lacks ybr"]),
        (cvat('<box xtl="1" ytl="1" xbr="4" ybr="4"/>'), ["box 1", "lacks label"]),
        (cvat("", 'width="30" height="tall"'), ["'a.png'", "height is 'tall'"]),
        (cvat("", f'width="30" height="{"9" * 5000}"'), ["'a.png'", "height"]),
        (cvat("", f'width="{2**31 + 1}" height="1"'), ["'a.png'", "width"]),
        (cvat("", 'width="1100000" height="1000000"'), ["a.png", "too many to be read"]),
        (cvat("", name="x" * 5000), ["cannot hold an image 'xxx"]),
        (cvat("", name=""), ["cannot hold an image ''"]),
        (cvat("", name="C:/x.png"), ["x.png", "no such image"]),
        (cvat("", name="../../etc/passwd"), ["images/etc/passwd", "no such image"]),
        (cvat("", name="a&#10;b.png"), ["cannot hold an image"]),
        ("<annotation/>", ["is XML of <annotation>"]),
        ("<annotations>" + "<a>" * DEEP, ["is not readable XML"]),
        ('<?xml version="1.0" encoding="utf-7"?><annotations/>', ["is not readable XML"]),
    ],
)  # fmt: skip
def test_cvat_names_image_and_object(tmp_path: Path, content: str, parts: list[str]) -> None:
    write_png(tmp_path / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "annotations.xml").write_text(content)
    refused("cvat", tmp_path, str(tmp_path), *parts)


def test_cvats_huge_image_is_believed_only_if_it_is_one(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    shape = '<polygon label="crack" points="0,0;29999,0;29999,29999"/>'
    content = cvat(shape, 'width="30000" height="30000"')
    (tmp_path / "annotations.xml").write_text(content)
    refused("cvat", tmp_path, "a.png", "is 30x20, but listed as 30000x30000")


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """A set of one image with one box."""
    root = tmp_path / "set"
    write_png(root / "images" / "train" / "a.png", np.zeros((20, 30, 3), np.uint8))
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("names: [crack]\ntrain: images/train\nval: images/train\n")
    return root


def test_the_set_that_the_cases_change_is_a_good_one(yolo: Path) -> None:
    assert len(read_yolo(yolo).records) == 1
    assert check_yolo(yolo) == YoloCheck()


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ("0 inf 0.5 0.2 0.2", ["row 1", "far outside"]),
        ("0 0.5 nan 0.2 0.2", ["row 1", "far outside"]),
        ("0 0.5 0.5 0.2 1e300", ["row 1", "far outside"]),
        ("0 0.1 0.1 0.2 0.1 0.2 5000.5", ["row 1", "far outside an image of 30x20"]),
        ("0 0.1 0.1 0.2 0.1 nan 0.2", ["row 1", "far outside"]),
        ("inf 0.5 0.5 0.2 0.2", ["row 1", "label inf"]),
        ("nan 0.5 0.5 0.2 0.2", ["row 1", "label nan"]),
        ("1e300 0.5 0.5 0.2 0.2", ["row 1", "label 1e+300"]),
        ("-1 0.5 0.5 0.2 0.2", ["row 1", "label -1"]),
        ("0.5 0.5 0.5 0.2 0.2", ["row 1", "label 0.5"]),
        (f"{'9' * 5000} 0.5 0.5 0.2 0.2", ["row 1"]),
        ("0 0.5 0.5\n0 \x00 1 1 1", ["row 1"]),
        ("0 .1 .1 .2 .1 .2 .2\n0 0.5 0.5 9e3 9e3", ["row 2", "far outside"]),
    ],
)
def test_a_yolo_row_is_named(yolo: Path, row: str, parts: list[str]) -> None:
    (yolo / "labels" / "train" / "a.txt").write_text(row)
    refused("yolo", yolo, "labels/train/a.txt", *parts)
    check_yolo(yolo)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("names: 3\ntrain: images/train", ["names"]),
        ("names: {a: b}\ntrain: images/train", ["names"]),
        ("names: {0: [x]}\ntrain: images/train", ["names"]),
        ("names: [~]\ntrain: images/train", ["names"]),
        ('names: ["\\ud800"]\ntrain: images/train', ["names"]),
        ("names: [a]\nnc: [1]\ntrain: images/train", ["nc"]),
        ("names: [a]\npath: {a: b}\ntrain: images/train", ["path"]),
        ("names: [a]\ntrain: {a: images/train}", ["train"]),
        ("names: [a]\ntrain: [[images/train]]", ["train"]),
        ('names: [a]\ntrain: "images\\0train"', ["train", "control characters"]),
        (f"names: [a]\ntrain: {'x' * 5000}", ["does not exist"]),
        ("names: [a]\ntrain: /etc", ["outside the folder"]),
        ("names: [a]\npath: /\ntrain: .", ["outside the folder"]),
        ("names: [a]\ntrain: ../..", ["outside the folder"]),
        ("names: [a]\ntrain: /dev/zero", ["outside the folder"]),
        ("names: [a]\ntrain: /etc/passwd", ["outside the folder"]),
        ("names: [a]\ntrain: pipe", ["neither a folder nor a list"]),
        ("names: [a]\ntrain: outside.txt", ["outside the folder"]),
        ("names: [a]\ntrain: long.txt", ["long.txt", "row 1"]),
        ("names: [a]\ntrain: latin.txt", ["latin.txt", "is not UTF-8"]),
        ("names: [a]\ntrain: linked", ["outside the folder"]),
        ("- names", ["names no categories"]),
        ("names: *a", ["is not YAML"]),
        ("[" * 600, ["is not YAML"]),
        ("names: !!python/object/apply:os.system ['true']", ["is not YAML"]),
    ],
)
def test_data_yaml_names_the_key(
    yolo: Path, tmp_path: Path, content: str, parts: list[str]
) -> None:
    os.mkfifo(yolo / "pipe")
    (yolo / "outside.txt").write_text("../../secret/b.png\n")
    (yolo / "long.txt").write_text("x" * 5000)
    (yolo / "latin.txt").write_bytes(b"\xfc.png")
    write_png(tmp_path / "secret" / "b.png", np.zeros((4, 5, 3), np.uint8))
    (yolo / "linked").symlink_to(tmp_path / "secret")
    (yolo / "data.yaml").write_text(content)
    refused("yolo", yolo, *parts)
    if parts == ["does not exist"]:  # a fault, beside which the rest is checked
        assert "there is no folder" in str(check_yolo(yolo).findings)
        return
    with pytest.raises(DataError):
        check_yolo(yolo)


def test_a_linked_image_is_read_only_if_that_is_allowed(yolo: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "secret" / "b.png", np.zeros((4, 5, 3), np.uint8))
    (yolo / "images" / "train" / "b.png").symlink_to(tmp_path / "secret" / "b.png")
    refused("yolo", yolo, "b.png", "outside the folder")
    assert len(read_yolo(yolo, allow_outside=True).records) == 2


def test_names_may_be_a_mapping_and_numbers(yolo: Path) -> None:
    (yolo / "data.yaml").write_text("names: {'0': 7, 1: no}\ntrain: [images/train]\n")
    assert read_yolo(yolo).categories == ("7", "no")


@pytest.mark.parametrize("place", ["images/train/b.png", "labels/train/a.txt"])
def test_a_pipe_in_a_yolo_set_is_refused_at_once(yolo: Path, place: str) -> None:
    (yolo / place).unlink(missing_ok=True)
    os.mkfifo(yolo / place)
    refused("yolo", yolo, Path(place).name, "is not a regular file")


@pytest.mark.parametrize("place", ["test/crack/b.png", "train/good/b.png"])
def test_a_pipe_in_a_product_is_refused_at_once_or_passed_over(
    make_product: MakeProduct, place: str
) -> None:
    root = make_product({"crack": 1})
    os.mkfifo(root / place)
    with pytest.raises(DataError, match=r"b\.png: is not a regular file"):
        read_mvtec([root], Faults())
    faults = Faults(keep_going=True)
    assert len(read_mvtec([root], faults).records) == 7
    assert len(faults.errors) == 1


def test_labels_outside_the_set_are_not_mended(yolo: Path, tmp_path: Path) -> None:
    """A data.yaml from elsewhere names a set, and label files, of somebody else."""
    (yolo / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n" * 2)
    (tmp_path / "mailed").mkdir()
    mailed = tmp_path / "mailed" / "data.yaml"
    mailed.write_text(f"names: [crack]\npath: {yolo}\ntrain: images/train\nval: images/train\n")
    with pytest.raises(DataError, match="outside the folder"):
        validate([mailed], fix=True)
    assert len((yolo / "labels" / "train" / "a.txt").read_text().splitlines()) == 2
    assert validate([mailed], fix=True, allow_outside=True).fixed == 1
    assert len((yolo / "labels" / "train" / "a.txt").read_text().splitlines()) == 1
