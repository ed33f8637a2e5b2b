"""Files of the shape that the exporters of FiftyOne 1.22 write, for one image of 80 x 60 pixels
with a crack at 10, 12 to 30, 30 and a stain at 40, 30 to 60, 45."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.formats.registry import FORMATS
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.geometry.masks import area
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections

CRACK, STAIN = [10, 12, 30, 30], [40, 30, 60, 45]
ROWS = ["0 0.250000 0.350000 0.250000 0.300000", "1 0.625000 0.625000 0.250000 0.250000"]


def read(name: str, root: Path) -> tuple[Detections, SourceCounts]:
    """The objects of a.png, and all counts. Two photos: the second has no object."""
    log = SourceLog()
    dataset: Dataset = FORMATS[name].read(root, None, log=log)
    by_name = {record.path.name: dataset.on(record) for record in dataset.records}
    assert [dataset.categories[label] for label in by_name["a.png"].labels] == ["crack", "stain"]
    assert not len(by_name.get("good part.png", ()))
    return by_name["a.png"], log.counts(dataset)


def written(root: Path, folder: str, **texts: str) -> Path:
    for name in ("a.png", "good part.png"):
        write_png(root / folder / name, np.zeros((60, 80, 3), np.uint8))
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def coco(*segmentations: Any, **more: Any) -> str:
    boxes = [[10.0, 12.0, 20.0, 18.0], [40.0, 30.0, 20.0, 15.0]]
    rows = [
        {"id": n + 1, "image_id": 1, "category_id": n + 1, "bbox": boxes[n], "area": 300.0,
         "iscrowd": 0, **({"segmentation": outline} if outline else {}), **(more if n else {})}
        for n, outline in enumerate(segmentations)
    ]  # fmt: skip
    images = [{"id": n + 1, "file_name": name, "height": 60, "width": 80, "license": None,
               "coco_url": None} for n, name in enumerate(("a.png", "good part.png"))]  # fmt: skip
    categories = [{"id": n + 1, "name": name, "supercategory": None}
                  for n, name in enumerate(("crack", "stain"))]  # fmt: skip
    return json.dumps({"info": {"year": ""}, "licenses": [], "categories": categories,
                       "images": images, "annotations": rows})  # fmt: skip


def test_its_coco_has_masks_beside_boxes(tmp_path: Path) -> None:
    """The ring is closed by its first point, on middles of pixels."""
    ring = [29.0, 29.5, 13.0, 29.5, 12.5, 14.0, 29.0, 13.5, 29.0, 29.5]
    root = written(tmp_path, "data", **{"labels.json": coco([ring], None)})
    objects, counts = read("coco", root)
    assert objects.boxes.tolist() == [CRACK, STAIN]
    assert [area(mask) for mask in objects.masks or ()] == [256, 300]  # by pycocotools
    assert (counts.objects, counts.read) == (2, 1)
    assert [(row.kind, row.count) for row in counts.converted] == [("box among masks", 1)]


def test_an_open_line_in_its_coco_is_left_out_and_counted(tmp_path: Path) -> None:
    text = json.loads(coco([[10, 12, 30, 12, 30, 30]], None))
    line = {"id": 3, "image_id": 1, "category_id": 2, "bbox": [8.0, 6.0, 32.0, 10.0],
            "segmentation": [[8, 6, 40, 16]], "area": 0.0, "iscrowd": 0}  # fmt: skip
    text["annotations"].append(line)
    root = written(tmp_path, "data", **{"labels.json": json.dumps(text)})
    _, counts = read("coco", root)
    assert [(row.kind, row.count, row.examples) for row in counts.left_out] == [
        ("line", 1, ("labels.json annotation 3",))
    ]
    line["area"] = 320.0  # two points of an object with an area may be corners
    (root / "labels.json").write_text(json.dumps(text))
    with pytest.raises(DataError, match="annotation 3: a polygon of 4 numbers"):
        read("coco", root)


def test_its_voc_has_photos_in_data_and_xml_in_labels(tmp_path: Path) -> None:
    """VOC counts pixels from 1."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in (("crack", CRACK), ("stain", STAIN))
    )
    xml = (
        "<annotation><folder></folder><filename>a.png</filename><path>/home/x/data/a.png</path>"
        "<source><database></database></source><size><width>80</width><height>60</height>"
        f"<depth>3</depth></size><segmented></segmented>{objects}</annotation>"
    )
    root = written(tmp_path, "data", **{"labels/a.xml": xml})
    found, counts = read("voc", root)
    assert found.boxes.tolist() == [CRACK, STAIN]
    assert (counts.objects, counts.read) == (2, 2)
    assert counts.notes == ("1 x photos without an XML file are not read: good part.png",)


def test_its_yolov4_has_labels_beside_photos_and_a_list(tmp_path: Path) -> None:
    files = {"obj.names": "crack\nstain", "images.txt": "data/a.png\ndata/good part.png",
             "data/a.txt": "\n".join(ROWS)}  # fmt: skip
    objects, counts = read("yolo", written(tmp_path, "data", **files))
    assert objects.boxes.round(4).tolist() == [CRACK, STAIN]
    assert (counts.objects, counts.read) == (2, 2)


def test_its_yolov5_has_another_machines_path_and_some_confidences(tmp_path: Path) -> None:
    yaml = "names:\n  0: crack\n  1: stain\npath: /home/x/set\ntrain: ./images/train/\n"
    files = {"dataset.yaml": yaml, "labels/train/a.txt": f"{ROWS[0]} 0.500000\n{ROWS[1]}"}
    objects, counts = read("yolo", written(tmp_path, "images/train", **files))
    assert objects.boxes.round(4).tolist() == [CRACK, STAIN]
    assert objects.scores is None
    assert any(note.startswith("confidences that not all rows") for note in counts.notes)


def test_its_cvat_has_photos_in_data_and_names_no_good_photo(tmp_path: Path) -> None:
    shapes = "".join(
        f'<box label="{name}" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" occluded="0" ></box>'
        for name, (x0, y0, x1, y1) in (("crack", CRACK), ("stain", STAIN))
    )
    labels = "".join(
        f"<label><name>{name}</name><attributes></attributes></label>"
        for name in ("crack", "stain")
    )
    xml = (
        "<annotations><version>1.1</version><meta><task><id>0</id><name></name><labels>"
        f'{labels}</labels></task></meta><image id="0" name="a.png" width="80" height="60">'
        f"{shapes}</image></annotations>"
    )
    objects, counts = read("cvat", written(tmp_path, "data", **{"labels.xml": xml}))
    assert objects.boxes.tolist() == [CRACK, STAIN]
    assert (counts.objects, counts.read) == (2, 2)
