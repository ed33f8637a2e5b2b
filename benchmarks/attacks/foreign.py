"""Small samples of label files that other programs write and this one only reads."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from .samples import SIZE, Kind, call, draw_image, imported, written

_HEIGHT, _WIDTH = SIZE


def label_studio_regions(root: Path) -> None:
    """A task with every type of region, and one with two annotations and a prediction."""
    size = {"original_width": _WIDTH, "original_height": _HEIGHT, "image_rotation": 0}

    def row(kind: str, key: str, **value: Any) -> dict[str, Any]:
        return {"type": kind, "id": key, "to_name": "image", "value": value, **size}

    box = {"x": 10, "y": 20, "width": 30, "height": 20, "rotation": 15}
    ring = [[10, 10], [40, 10], [40, 30]]
    rows = [
        row("rectanglelabels", "a", **box, rectanglelabels=["crack"]),
        row("ellipselabels", "b", x=50, y=50, radiusX=9, radiusY=5, ellipselabels=["stain"]),
        row("polygonlabels", "c", points=ring, closed=True, polygonlabels=["crack"]),
        row("rectangle", "d", **box), row("labels", "d", **box, labels=["stain"]),
        row("choices", "e", choices=["bad"]),
        row("keypointlabels", "f", x=1, y=1, keypointlabels=["crack"]),
    ]  # fmt: skip
    done = {"id": 1, "completed_by": {"id": 3, "email": "a@b.c"}, "result": rows}
    guess = {"id": 5, "score": 0.5, "result": rows[:1]}
    tasks = [
        {"id": 1, "data": {"img": "/data/upload/1/3f2a9c1b-a.png"}, "annotations": [done]},
        {"id": 2, "data": {"image": "s3://bucket/b.png?v=1"}, "predictions": [guess],
         "annotations": [done | {"was_cancelled": True}, done | {"ground_truth": True}]},
    ]  # fmt: skip
    _images(root, "a.png", "b.png")
    (root / "project.json").write_text(json.dumps(tasks), encoding="utf-8")


def cvat_video(root: Path) -> None:
    """Two tracks in three frames, one of them a polygon."""
    sides = f"<original_size><width>{_WIDTH}</width><height>{_HEIGHT}</height></original_size>"
    labels = "<labels><label><name>crack</name></label></labels>"
    meta = f"<meta><task><id>1</id><size>3</size>{labels}{sides}</task></meta>"
    box = '<box frame="{}" keyframe="1" outside="{}" xtl="{}" ytl="3" xbr="30" ybr="20"/>'
    ring = '<polygon frame="{}" outside="0" points="1,1;{},1;9,9;1,9"/>'
    tracks = [
        box.format(0, 0, 1) + box.format(2, 0, 9),
        ring.format(0, 9) + ring.format(2, 20) + '<ellipse frame="1" cx="9" cy="9" rx="4" ry="5"/>',
    ]
    nodes = "".join(f'<track id="{n}" label="crack">{t}</track>' for n, t in enumerate(tracks))
    _images(root, *(f"frame_{number:06d}.png" for number in range(3)))
    text = f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{nodes}</annotations>'
    (root / "annotations.xml").write_text(text, encoding="utf-8")


def cvat_zip(root: Path) -> None:
    """The zip of an export, and nothing beside it."""
    source = root.with_name(f"{root.name}-zipped")
    written("cvat")(source)
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "task.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source))


def _images(root: Path, *names: str) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(root / "images" / name), draw_image(number))


FOREIGN_KINDS: Mapping[str, Kind] = {
    "label-studio-regions": Kind(
        label_studio_regions, ("*.json",), [imported("label-studio")], 20
    ),
    "cvat-video": Kind(cvat_video, ("*.xml",), [imported("cvat")], 20),
    "cvat-zip": Kind(
        cvat_zip, ("*.zip",), [call("import {in}/task.zip --from cvat -o {out} --json")], 10
    ),
}  # fmt: skip
