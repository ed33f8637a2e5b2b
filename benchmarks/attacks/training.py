"""Planted data sets in a training of ultralytics, on a small network that is made here."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from .samples import Kind, invoke, write_coco_set
from .values import Places, planted_pickle

_WORDS = ("--epochs", 1, "--image-side", 64, "--batch", 2, "--device", "cpu", "--text", "fixed",
          "--set", "workers=0")  # fmt: skip


def _data(root: Path) -> None:
    """What convert-masks writes, and a YOLO-World with weights drawn by chance."""
    source = root.with_name("source")
    write_coco_set(source)
    invoke("convert-masks", source, "-o", root / "data", "--workers", 1, "--val", 0.3, "--test", 0,
           "--copy-images", "-q")  # fmt: skip
    shutil.rmtree(source)
    from pipeline.models import ultralytics_offline

    made = ultralytics_offline.load().YOLOWorld("yolov8s-world.yaml")
    made.save(str(root / "world.pt"))


def _trained(_: Random, places: Places) -> Any:
    from unittest import mock

    from pipeline.models.weights import store as weights

    path = places.sample / "world.pt"
    kept = weights.Weights("yolov8s-world", path, hashlib.sha256(path.read_bytes()).hexdigest())
    with mock.patch.object(weights.WeightsStore, "get", lambda *_: kept):
        return invoke(
            "finetune-yolo", "--data", places.sample / "data", "-o", places.output, *_WORDS
        )


_CACHES = ("labels/train.cache", "labels.cache", "labels/train/sub.cache", "images/train.cache",
           "labels/val.cache", "images/train/a.npy", "train.cache", "images.cache")  # fmt: skip


def _plant(extra: str, caches: bool) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        _data(root)
        places = Places(root.parent)
        data = root / "data"
        path = data / "data.yaml"
        path.write_text(path.read_text() + extra.replace("MARK", str(places.marker)))
        for name in _CACHES if caches else ():
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_bytes(planted_pickle(places))

    return build


_PLANTED = {
    "as it should be": ("", False),
    "caches of labels": ("", True),
    "download as shell": ("\nval: nowhere\ndownload: bash -c 'touch MARK'\n", True),
    "download as code": ("\nval: nowhere\ndownload: \"open('MARK', 'w')\"\n", True),
    "path elsewhere": ("\npath: ../../outside\n", True),
}

TRAINING: Mapping[str, list[Kind]] = {
    name: [Kind(_plant(*what), (), [_trained], memory=8 << 30, seconds=180)]
    for name, what in _PLANTED.items()
}
