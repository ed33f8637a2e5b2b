"""With `--keep-going` every object of a source is counted, those of a faulty image too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import Faults
from pipeline.formats.cvat import read_cvat
from pipeline.formats.label_studio import read_label_studio
from pipeline.formats.labelme_reader import read_labelme
from pipeline.formats.source import SourceCounts, SourceLog
from pipeline.formats.voc_reader import read_voc
from pipeline.formats.yolo_reader import read_yolo
from pipeline.io.images import write_png

HEIGHT, WIDTH = 60, 80
BOX = '<box label="crack" xtl="10" ytl="20" xbr="40" ybr="30"/>'
NO_BOX = '<box label="crack" xtl="q" ytl="20" xbr="40" ybr="30"/>'
TRACKED = BOX.replace("<box", '<box frame="0" outside="0"')
RING = [[2, 2], [12, 2], [12, 8]]
VOC_BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
Write = Callable[[Path], Path]


def _write(root: Path, name: str, text: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root


def _cvat(*nodes: str) -> Write:
    text = "<annotations><meta><task><labels><label><name>crack</name></label></labels></task>"
    return lambda root: _write(
        root, "annotations.xml", f"{text}</meta>{''.join(nodes)}</annotations>"
    )


def _image(name: str, *shapes: str) -> str:
    return f'<image name="{name}" width="{WIDTH}" height="{HEIGHT}">{"".join(shapes)}</image>'


def _studio(*tasks: tuple[str, list[dict[str, Any]]]) -> Write:
    content = [
        {"id": number, "data": {"image": name}, "annotations": [{"result": results}]}
        for number, (name, results) in enumerate(tasks, start=1)
    ]
    return lambda root: _write(root, "tasks.json", json.dumps(content)) / "tasks.json"


def _region(key: str, x: object = 10) -> dict[str, Any]:
    value = {"x": x, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["crack"]}
    return {"id": key, "type": "rectanglelabels", "to_name": "image", "value": value}


def _labelme(*shapes: dict[str, Any], image: str = "a.png") -> Write:
    content = {"shapes": shapes, "imagePath": image}
    return lambda root: _write(root / "images", "a.json", json.dumps(content))


def _shape(**more: object) -> dict[str, Any]:
    return {"label": "crack", "points": RING, **more}


def _voc(*boxes: str) -> Write:
    objects = "".join(f"<object><name>crack</name>{box}</object>" for box in boxes)
    text = f"<annotation><filename>a.png</filename>{objects}</annotation>"
    return lambda root: _write(root, "Annotations/a.xml", text)


def _yolo(*rows: str) -> Write:
    def write(root: Path) -> Path:
        _write(root, "classes.txt", "crack\n")
        return _write(root, "labels/a.txt", "\n".join(rows))

    return write


@pytest.mark.parametrize(
    ("reader", "write", "objects", "read", "images"),
    [
        (read_cvat, _cvat(_image("a.png")), 0, 0, 1),
        # the shape alone is faulty; the photo of the second is not there
        (read_cvat, _cvat(_image("a.png", BOX, NO_BOX), _image("gone.png", BOX, BOX)), 4, 1, 2),
        (read_cvat, _cvat(f'<track label="other">{TRACKED}</track>'), 1, 0, 0),
        (read_label_studio, _studio(("a.png", [])), 0, 0, 1),
        (read_label_studio, _studio(("a.png", [_region("x"), _region("y", "?")])), 2, 1, 1),
        (read_label_studio, _studio(("gone.png", [_region("x"), _region("y")])), 2, 0, 1),
        (read_labelme, _labelme(), 0, 0, 1),
        (read_labelme, _labelme(_shape(), _shape(), image="gone.png"), 2, 2, 1),
        (read_labelme, _labelme(_shape(), _shape(points=[["?", 1]])), 2, 0, 1),
        (read_labelme, _labelme(_shape(), _shape(shape_type="mask", mask="?")), 2, 0, 1),
        (read_voc, _voc(), 0, 0, 1),
        (read_voc, _voc(VOC_BOX, VOC_BOX.replace(">1<", ">q<")), 2, 1, 1),
        (read_yolo, _yolo(), 0, 0, 1),
        (read_yolo, _yolo("0 0.5 0.5 0.2 0.2", "0 q 0.5 0.2 0.2"), 2, 0, 1),
    ],
)  # fmt: skip
def test_every_object_beside_a_fault_is_counted(
    tmp_path: Path, reader: Callable[..., Any], write: Write, objects: int, read: int, images: int
) -> None:
    write_png(tmp_path / "images" / "a.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    log = SourceLog(Faults(keep_going=True))
    dataset = reader(write(tmp_path), None, log=log)
    counts: SourceCounts = log.counts(dataset)
    assert (counts.objects, counts.read, counts.images) == (objects, read, images)
    assert sum(row.count for row in counts.left_out) == objects - read
