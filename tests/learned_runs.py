"""A run whose segmenter finds bright blocks, with labels of photos that it has not seen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from segmenters import small_crops

from pipeline.config.schema import (
    CombineConfig,
    ConvertConfig,
    FinetuneSegmenterConfig,
    SegmentConfig,
)
from pipeline.io.images import write_png
from pipeline.io.read import sha256_of
from pipeline.models.segmentation import model as segmenter_model
from pipeline.models.segmentation.defect_map import DefectMap
from pipeline.review.create import create_session
from pipeline.review.source import find_source, read_labels
from pipeline.stages.combine import combine
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.label import label
from pipeline.types import Image

TINY = FinetuneSegmenterConfig(pretrained="no", folds=2, decoder_steps=1, steps=1, batch=2)


def map_of(_: object, image: Image, __: float, categories: int) -> DefectMap:
    """Bright is a defect; on every photo there is a false candidate of a probability of 0.55."""
    bright = image.mean(axis=2)
    defect = np.where(bright > 120, 240, 0).astype(np.uint8)
    defect[40:44, 2:6] = 140
    return DefectMap(defect, np.zeros_like(defect), categories)


@contextmanager
def bright_maps() -> Iterator[None]:
    """In here, every segmenter finds what is bright, and learns from small crops."""
    with small_crops(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_model, "predict_map", map_of)
        yield


def draw_photo(path: Path, blocks: int, seed: int) -> np.ndarray:
    """A dark photo with some bright blocks; returns their mask."""
    generator = np.random.default_rng(seed)
    image = generator.integers(20, 40, (48, 64, 3)).astype(np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    for block in range(blocks):
        x, y = 6 + 26 * block + seed % 5, 8 + seed % 7
        mask[y : y + 14, x : x + 16] = 255
    image[mask > 0] += 180
    write_png(path, image)
    return mask


def draw_run(home: Path, photos: int = 4) -> Path:
    """The folder of a run, and of labels of new photos `new0.png` and so on; each has one block,
    but the last has two."""
    product, run = home / "product", home / "run"
    for number in range(30):
        is_good = number >= 24
        place = product / ("train/good" if is_good else "test/crack") / f"{number:03d}.png"
        mask = draw_photo(place, 0 if is_good else 1, number)
        if not is_good:
            write_png(product / "ground_truth" / "crack" / f"{number:03d}_mask.png", mask)
    convert_masks([product], run / "data", ConvertConfig(val=0.2, test=0.1, group_by="none"))
    finetune_segmenter(run / "data", run / "segmenter", TINY, device="cpu")
    combine(run / "data", run / "segmenter", run / "labeller", CombineConfig(sam=""), device="cpu")
    for number in range(photos):
        blocks = 2 if number == photos - 1 else 1
        draw_photo(home / "photos" / f"new{number}.png", blocks, 100 + number)
    config = SegmentConfig(overlays=False)
    label(run / "labeller", home / "photos", run / "labels", config, device="cpu")
    return run


@cache
def _drawn() -> tuple[Path, TemporaryDirectory[str]]:
    """A run that is drawn once for all tests; its folder goes with the last reference to it."""
    folder = TemporaryDirectory(prefix="pipeline-run-")
    with bright_maps():
        return draw_run(Path(folder.name)), folder


def reviewed_run(folder: Path) -> Path:
    """A copy of the run, with a session of its labels."""
    run = Path(shutil.copytree(_drawn()[0].parent, folder / "home")) / "run"
    source = find_source(run, run.parent / "photos")
    create_session(source.session, read_labels(source), run.parent / "photos",
                   sha256_of(source.labels))  # fmt: skip
    return run
