"""Files that the libraries of other tools write, now or once before (see samples), are read as
their own tools mean them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.formats.registry import FORMATS
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.geometry.masks import area, decode
from pipeline.io.images import write_png
from pipeline.models import ultralytics_offline
from pipeline.types import Dataset, Detections

SAMPLES = Path(__file__).parent / "samples"
STUDIO = SAMPLES / "label-studio-sdk-2.1.2"
HEIGHT, WIDTH = 20, 30
BOX = [6.0, 4.0, 16.0, 12.0]
L_PIXELS = 65  # 10 x 5, and 5 x 3 below


def l_shape() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:9, 6:16] = mask[9:12, 6:11] = True
    return mask


def photo(path: Path, width: int = WIDTH) -> Path:
    write_png(path, np.zeros((HEIGHT, width, 3), np.uint8))
    return path


def read(name: str, source: Path, images: Path | None = None) -> tuple[Dataset, SourceCounts]:
    log = SourceLog()
    dataset = FORMATS[name].read(source, images, log=log)
    return dataset, log.counts(dataset)


def only(dataset: Dataset) -> Detections:
    """The objects of the only image that has any."""
    (found,) = [dataset.on(record) for record in dataset.records if len(dataset.on(record))]
    return found


def names(dataset: Dataset) -> list[str]:
    return [dataset.categories[label] for label in only(dataset).labels]


def test_labelmes_own_file_has_the_pixels_that_labelme_draws(tmp_path: Path) -> None:
    """`labelme.utils.shape_to_mask` draws 39, 60 and 37 pixels, and its mask has 13."""
    shutil.copy(SAMPLES / "labelme-6.3.1" / "a.json", tmp_path)
    dataset, counts = read("labelme", tmp_path)
    assert [area(mask) for mask in only(dataset).masks or ()] == [39, 60, 37, 13]
    assert names(dataset) == ["crack", "stain", "crack", "stain"]
    assert {row.kind: row.count for row in counts.left_out} == {"line": 1, "point": 1}
    assert counts.objects == 6


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """The folder of the photo that Label Studio names `?d=b.png`."""
    return photo(tmp_path / "photos" / "b.png", 40).parent


def test_label_studios_coco_names_the_photo_of_a_local_storage(storage: Path) -> None:
    """A rectangle 10, 4 to 18, 12, and a polygon 20, 5 to 30, 15."""
    dataset, counts = read("coco", STUDIO / "coco.json", storage)
    assert dataset.records[0].path == storage / "b.png"
    assert [area(mask) for mask in only(dataset).masks or ()] == [64, 100]
    assert names(dataset) == ["crack", "stain"]
    assert counts.left_out == ()


@pytest.mark.parametrize("name", ["yolo", "yolo_obb"])
def test_label_studios_yolo_names_the_photo_of_a_local_storage(
    storage: Path, tmp_path: Path, name: str
) -> None:
    labels = tmp_path / "set" / "labels"
    labels.mkdir(parents=True)
    shutil.copy(STUDIO / f"{name}.txt", labels / "?d=b.txt")
    (tmp_path / "set" / "classes.txt").write_text("crack\nstain\n")
    dataset, counts = read("yolo", tmp_path / "set", storage)
    np.testing.assert_allclose(only(dataset).boxes, [[10, 4, 18, 12], [20, 5, 30, 15]], atol=1)
    assert names(dataset) == ["crack", "stain"]
    assert (counts.objects, counts.left_out) == (2, ())


def test_label_files_that_no_photo_has_the_name_of_are_counted(
    storage: Path, tmp_path: Path
) -> None:
    """Also where no label file has a photo, and the photos are elsewhere."""
    labels = tmp_path / "set" / "labels"
    labels.mkdir(parents=True)
    shutil.copy(STUDIO / "yolo.txt", labels / "other.txt")
    (tmp_path / "set" / "classes.txt").write_text("crack\nstain\n")
    _, counts = read("yolo", tmp_path / "set", storage)
    assert [(row.count, row.examples) for row in counts.left_out] == [(2, ("other.txt",))]


def test_label_studios_voc_names_the_photo_of_a_local_storage(
    storage: Path, tmp_path: Path
) -> None:
    """VOC counts pixels from 1, and Label Studio writes xmin 10 for 10: one less here."""
    (tmp_path / "Annotations").mkdir()
    shutil.copy(STUDIO / "voc.xml", tmp_path / "Annotations" / "?d=b.xml")
    dataset, _ = read("voc", tmp_path, storage)
    assert dataset.records[0].path == storage / "b.png"
    assert only(dataset).boxes.tolist() == [[9, 3, 18, 12]]


def test_label_studios_own_tasks_are_read(storage: Path) -> None:
    """Its importer of COCO gives a polygon its rectangle too: 64, 100 and 100 pixels."""
    dataset, counts = read("label-studio", STUDIO / "tasks.json", storage)
    assert [area(mask) for mask in only(dataset).masks or ()] == [64, 100, 100]
    assert names(dataset) == ["crack", "stain", "stain"]
    assert counts.left_out == ()


def test_label_studios_own_brush_stroke_has_its_pixels(storage: Path) -> None:
    """A square of 8 pixels with a hole of 2 x 3."""
    expected = np.zeros((HEIGHT, 40), bool)
    expected[4:12, 10:18] = True
    expected[6:9, 12:14] = False
    dataset, _ = read("label-studio", STUDIO / "brush.json", storage)
    (mask,) = only(dataset).masks or ()
    assert (decode(mask) == expected).all()


@pytest.mark.parametrize("has_masks", [False, True])
@pytest.mark.parametrize("name", ["coco", "yolo", "labelme"])
def test_what_supervision_writes_is_read(tmp_path: Path, name: str, has_masks: bool) -> None:
    supervision = pytest.importorskip("supervision")
    path = str(photo(tmp_path / "set" / "images" / "a.png"))
    mask = l_shape()[None] if has_masks else None
    found = supervision.Detections(np.array([BOX]), mask=mask, class_id=np.array([1]))
    theirs = supervision.DetectionDataset(["stain", "crack"], [path], {path: found})
    root = tmp_path / "set"
    if name == "coco":
        theirs.as_coco(annotations_path=str(root / "labels.json"))
    elif name == "yolo":
        theirs.as_yolo(
            annotations_directory_path=str(root / "labels"), data_yaml_path=str(root / "data.yaml")
        )
    else:
        theirs.as_labelme(annotations_directory_path=str(root / "labels"))
    dataset, counts = read(name, root)
    assert names(dataset) == ["crack"]
    assert (counts.objects, counts.left_out) == (1, ())
    own = only(dataset)
    np.testing.assert_allclose(own.boxes, [BOX], atol=1)
    # its polygons go through the centres of pixels: COCO's own rule draws 9 x 4 and 4 x 3
    pixels = {"coco": 48, "yolo": L_PIXELS, "labelme": L_PIXELS}[name]
    assert [area(mask) for mask in own.masks or ()] == ([pixels] if has_masks else [])


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_what_datumaro_writes_is_read(tmp_path: Path, form: str) -> None:
    datumaro = pytest.importorskip("datumaro")
    from datumaro.components.annotation import Bbox, Mask, Polygon
    from datumaro.components.media import Image

    x0, y0, x1, y1 = BOX
    objects = [Bbox(x0, y0, x1 - x0, y1 - y0, label=1, id=1, group=1)]
    if form == "coco":
        objects += [
            Polygon([20, 2, 26, 2, 26, 8, 20, 8], label=0, id=2, group=2),
            Mask(l_shape(), label=1, id=3, group=3),
        ]
    items = [
        datumaro.DatasetItem(
            "x/a", subset="train", annotations=objects, attributes={"id": 5},
            media=Image.from_numpy(np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
        )
    ]  # fmt: skip
    theirs = datumaro.Dataset.from_iterable(items, categories=["stain", "crack"])
    theirs.export(str(tmp_path / "set"), form, save_media=True)
    dataset, counts = read(form, tmp_path / "set")
    assert counts.left_out == ()
    if form == "yolo":
        assert names(dataset) == ["crack"]
        np.testing.assert_allclose(only(dataset).boxes, [BOX], atol=0.01)
    else:
        assert names(dataset) == ["crack", "stain", "crack"]
        assert [area(mask) for mask in only(dataset).masks or ()] == [80, 36, L_PIXELS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "masks", "obb"])
def test_what_ultralytics_predicts_is_read_with_its_scores(tmp_path: Path, kind: str) -> None:
    """`save_txt` with `save_conf`, as `yolo predict` calls it. The turned box is 10 x 6 about 15,
    10, by a right angle."""
    ultralytics_offline.load()
    import torch
    from ultralytics.engine.results import Results

    path = photo(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("train: images\nnames: [stain, crack]\n")
    given: dict[str, Any] = {"boxes": torch.tensor([[*BOX, 0.75, 1]])}
    if kind == "masks":
        given["masks"] = torch.from_numpy(l_shape()[None].astype(np.float32))
    if kind == "obb":
        given = {"obb": torch.tensor([[15.0, 10, 10, 6, np.pi / 2, 0.75, 1]])}
    empty = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    results = Results(empty, path=str(path), names={0: "stain", 1: "crack"}, **given)
    results.save_txt(tmp_path / "labels" / "a.txt", save_conf=True)
    dataset, counts = read("yolo", tmp_path)
    own = only(dataset)
    assert names(dataset) == ["crack"]
    assert own.scores is not None
    assert own.scores.tolist() == [0.75]
    assert counts.left_out == ()
    expected = [12, 5, 18, 15] if kind == "obb" else BOX
    np.testing.assert_allclose(own.boxes, [expected], atol=1)
