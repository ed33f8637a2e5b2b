"""Names from files become parts of paths, and none of them leads out of the output folder."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import ConvertConfig, EvaluateConfig, ExportConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.mvtec import read_mvtec
from pipeline.formats.registry import FORMATS
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import write_png
from pipeline.io.names import MAX_BYTES, leaves_its_folder, safe_component
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.evaluate import evaluate
from pipeline.stages.export_labels import export_labels, import_labels

HOSTILE = ["../../../escape", "..", "a/../../b", "C:\\x", "con", "a|b", ".hidden", " ", "x" * 300]
texts = st.text(max_size=300) | st.sampled_from(HOSTILE)


@given(text=texts, suffix=st.sampled_from(["", ".png", "_mask.png"]))
def test_a_safe_component_is_one_component_of_at_most_255_bytes(text: str, suffix: str) -> None:
    name = safe_component(text, suffix)
    assert PurePosixPath(name).parts == (name,)
    assert name.endswith(suffix)
    assert len(name.encode()) <= MAX_BYTES
    assert not leaves_its_folder(name)
    assert not set(name) & set('<>:"/\\|?*\0')


@given(texts, texts)
def test_distinct_texts_stay_distinct_also_those_that_seem_escaped(one: str, other: str) -> None:
    chosen = {one, other, safe_component(one), safe_component(safe_component(one))}
    assert len({safe_component(text) for text in chosen}) == len(chosen)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}", fullmatch=True))
def test_a_plain_name_stays_as_it_is(text: str) -> None:
    reserved = text.upper() in {"CON", "PRN", "AUX", "NUL"} or text[:3].upper() in {"COM", "LPT"}
    assert reserved or safe_component(text) == text


def coco_set(folder: Path, category: str, **more: Any) -> Path:
    """A set of one image with one object; `more` are keys of the image's entry."""
    write_png(folder / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    mask = np.zeros((20, 30), bool)
    mask[4:9, 5:12] = True
    rle = mask_geometry.encode(mask)
    row = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [5, 4, 7, 5],
        "area": 35,
        "iscrowd": 0,
        "segmentation": {"size": [20, 30], "counts": rle["counts"].decode()},
    }
    image = {"id": 1, "file_name": "a.png", "height": 20, "width": 30} | more
    content = {"images": [image], "annotations": [row], "categories": [{"id": 1, "name": category}]}
    path = folder / "annotations" / "instances.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder with the files that hostile names would overwrite; the output lies beside it."""
    for name in ("train/a.png", "a.png", "a_mask.png", "a.txt", "a.json"):
        path = tmp_path / "canary" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("untouched")
    return tmp_path / "canary"


def everything(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


def outside(tmp_path: Path) -> set[str]:
    """What lies in the test's folder beside what it has put there itself."""
    return {path.name for path in tmp_path.iterdir()} - {"canary", "set", "out", "again", "in"}


def hostile_names(canary: Path) -> list[str]:
    up = "/".join([".."] * 12)
    return [str(canary), f"../../{canary.name}", f"{up}{canary}", "..", "a/b", "~/x", "con", ""]


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 8))]
)
@pytest.mark.parametrize("form", sorted(FORMATS))
@pytest.mark.parametrize("key", ["defect", "source_split", "split", "group", "product", "category"])
def test_no_name_in_a_coco_file_leads_out_of_what_is_exported(
    tmp_path: Path, canary: Path, form: str, key: str, number: int
) -> None:
    name, before = hostile_names(canary)[number], everything(canary)
    more = {} if key == "category" else {key: name}
    source = coco_set(tmp_path / "set", name if key == "category" else "scratch", **more)
    try:
        export_labels(source, form, tmp_path / "out", ExportConfig())
    except DataError as error:  # a format that cannot hold the name says so
        assert "\n" not in str(error)
    assert everything(canary) == before
    assert not outside(tmp_path)


@pytest.mark.parametrize("form", ["cvat-coco", "coco", "voc"])
def test_an_unsafe_part_comes_back_as_it_was(tmp_path: Path, form: str) -> None:
    source = coco_set(tmp_path / "set", "scratch", split="night/../shift")
    dataset = FORMATS["coco"].read(source, tmp_path / "set" / "images")
    FORMATS[form].write(tmp_path / "out", dataset, False, 0.0)
    (record,) = FORMATS[form].read(tmp_path / "out", None).records
    assert record.split == "night/../shift"
    assert record.path.is_file()


def test_mvtec_keeps_two_unsafe_categories_apart(tmp_path: Path) -> None:
    for number, kind in enumerate(("a/b", "a\\b", "a_b")):
        source = coco_set(tmp_path / f"set{number}", kind)
        dataset = FORMATS["coco"].read(source, source.parent.parent / "images")
        FORMATS["mvtec"].write(tmp_path / f"out{number}", dataset, False, 0.0)
    found = [next((tmp_path / f"out{n}" / "test").iterdir()).name for n in range(3)]
    assert found == [safe_component("a/b"), safe_component("a\\b"), "a_b"]
    assert len(set(found)) == 3


def test_the_category_keeps_its_name_in_coco_while_mvtecs_folder_is_escaped(tmp_path: Path) -> None:
    source = coco_set(tmp_path / "set", "/etc/cron.d")
    export_labels(source, "mvtec", tmp_path / "out", ExportConfig())
    assert (tmp_path / "out" / "test" / safe_component("/etc/cron.d") / "a.png").is_file()
    assert (tmp_path / "out" / "ground_truth" / safe_component("/etc/cron.d")).is_dir()
    import_labels(source.parent.parent, "coco", tmp_path / "again", ExportConfig())
    assert read_coco(tmp_path / "again" / "annotations" / "instances.json").categories == (
        "/etc/cron.d",
    )


@pytest.mark.parametrize("number", range(8))
def test_cvats_subset_leads_nowhere_through_import_and_export(
    tmp_path: Path, canary: Path, number: int
) -> None:
    name, before = hostile_names(canary)[number], everything(canary)
    write_png(tmp_path / "in" / "images" / "a.png", np.zeros((20, 30, 3), np.uint8))
    tree = ElementTree.Element("annotations")
    size = {"width": "30", "height": "20"}
    image = ElementTree.SubElement(tree, "image", {"name": "a.png", "subset": name, **size})
    box = {"label": "scratch", "xtl": "1", "ytl": "1", "xbr": "5", "ybr": "6"}
    ElementTree.SubElement(image, "box", box)
    (tmp_path / "in" / "annotations.xml").write_bytes(ElementTree.tostring(tree))
    import_labels(tmp_path / "in", "cvat", tmp_path / "set", ExportConfig())
    for form in ("cvat-coco", "voc", "yolo"):
        export_labels(tmp_path / "set", form, tmp_path / "out" / form, ExportConfig())
    assert everything(canary) == before
    assert not outside(tmp_path)


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 8))]
)
def test_evaluates_gallery_stays_in_its_folder(tmp_path: Path, canary: Path, number: int) -> None:
    name, before = hostile_names(canary)[number], everything(canary)
    source = coco_set(tmp_path / "set", name or "x" * 400)
    config = EvaluateConfig(grabcut=False)
    evaluate(source, source, tmp_path / "out", config, images=tmp_path / "set" / "images")
    assert len(list((tmp_path / "out" / "gallery").glob("*.png"))) == 3
    assert everything(canary) == before
    assert not outside(tmp_path)


@pytest.mark.parametrize("number", range(7))
def test_convert_masks_makes_one_folder_of_a_part(
    tmp_path: Path, canary: Path, number: int
) -> None:
    name, before = hostile_names(canary)[number], everything(canary)
    source = coco_set(tmp_path / "set", "scratch", split=name)
    convert_masks([source], tmp_path / "out", ConvertConfig())
    assert (tmp_path / "out" / "images" / safe_component(name) / "a.png").is_file()
    assert everything(canary) == before
    assert not outside(tmp_path)


def test_two_images_that_cvats_coco_would_make_one_file_are_refused(tmp_path: Path) -> None:
    source = coco_set(tmp_path / "set", "scratch", split="train")
    write_png(tmp_path / "set" / "images" / "train" / "a.png", np.ones((20, 30, 3), np.uint8))
    content = json.loads(source.read_text())
    content["images"].append({**content["images"][0], "id": 2, "file_name": "train/a.png"})
    source.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"has the same name as .*; rename one"):
        export_labels(source, "cvat-coco", tmp_path / "out", ExportConfig())


def test_defects_called_good_are_refused_by_mvtec(tmp_path: Path) -> None:
    source = coco_set(tmp_path / "set", "good")
    with pytest.raises(DataError, match="has defects called good"):
        export_labels(source, "mvtec", tmp_path / "out", ExportConfig())


@pytest.mark.parametrize("what", ["image", "mask", "folder"])
def test_a_link_out_of_a_product_is_refused_or_passed_over_or_allowed(
    make_product: Any, tmp_path: Path, what: str
) -> None:
    root = make_product({"crack": 2, "stain": 1})
    place = {
        "image": "test/crack/000.png",
        "mask": "ground_truth/crack/000_mask.png",
        "folder": "test/stain",
    }[what]
    secret = tmp_path / "secret" / Path(place).name
    secret.parent.mkdir()
    (root / place).rename(secret)
    (root / place).symlink_to(secret)
    with pytest.raises(DataError, match="outside the folder"):
        read_mvtec([root], Faults())
    faults = Faults(keep_going=True)
    assert len(read_mvtec([root], faults).records) == 8
    assert len(faults.errors) == 1
    assert len(read_mvtec([root], Faults(), allow_outside=True).records) == 9


def test_a_link_within_a_product_is_as_good_as_a_file(make_product: Any) -> None:
    root = make_product({"crack": 2})
    (root / "test" / "crack" / "001.png").unlink()
    (root / "test" / "crack" / "001.png").symlink_to("000.png")
    assert len(read_mvtec([root], Faults()).records) == 8


def test_hidden_folders_are_passed_over(make_product: Any) -> None:
    root = make_product({"crack": 1})
    for place in ("test", "ground_truth", "train"):
        write_png(root / place / ".trash" / "x.png", np.zeros((4, 4), np.uint8))
    assert len(read_mvtec([root], Faults()).records) == 7


@pytest.mark.parametrize("place", ["test/crack/f\udcfc.png", "train/g\udcfc/000.png"])
def test_a_name_in_latin_1_is_a_fault_that_can_be_passed_over(
    make_product: Any, place: str
) -> None:
    root = make_product({"crack": 1})
    write_png(root / place, np.zeros((48, 64, 3), np.uint8))
    if "crack" in place:
        write_png(root / "ground_truth" / "crack" / "f\udcfc_mask.png", np.ones((48, 64), np.uint8))
    else:
        write_png(root / "ground_truth" / "g\udcfc" / "000.png", np.ones((48, 64), np.uint8))
        write_png(root / "test" / "g\udcfc" / "000.png", np.ones((48, 64), np.uint8))
    with pytest.raises(DataError, match=r"\\udcfc") as caught:
        read_mvtec([root], Faults())
    str(caught.value).encode()  # fit for a terminal and for a file
    faults = Faults(keep_going=True)
    assert len(read_mvtec([root], faults).records) == 7
    assert faults.errors
