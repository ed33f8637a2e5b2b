"""Every door by which a file could run code, with a canary behind it: a folder that appears as soon
as something is unpickled or executed."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from canary import SOURCES, Canary, MakeProduct, plant_cache

from pipeline.config import load as settings
from pipeline.config.schema import ConvertConfig
from pipeline.errors import ConfigError, PipelineError, WeightsError
from pipeline.formats.data_yaml import read_data_yaml
from pipeline.io.heatmaps import read_heatmap
from pipeline.io.read import sha256_of
from pipeline.io.write import write_json
from pipeline.models.artifact import read_artifact
from pipeline.models.checkpoint import TrainingCheckpoint
from pipeline.models.text.embeddings import TextEmbeddings
from pipeline.models.weights.store import Entry, WeightsStore
from pipeline.models.yolo_world.detector import (
    embeddings_file,
    load_finetuned,
    load_yolo_world,
    write_card,
)
from pipeline.stages.convert_masks import convert_masks


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def data(make_product: MakeProduct, tmp_path: Path) -> Path:
    """A set to train on, with a canary wherever ultralytics would step on one."""
    convert_masks([make_product(size=(48, 64))], tmp_path / "data", ConvertConfig(folds=2))
    return tmp_path / "data"


def plant_pickle(path: Path, marker: Path, plain: bool = False) -> None:
    content: dict[str, object] = {
        "epoch": 0,
        "ema": None,
        "model": Canary(marker),
        "train_args": {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)


def test_the_canary_sings_where_a_door_is_open(tmp_path: Path, marker: Path) -> None:
    plant_cache(tmp_path / "a.cache", marker)
    np.load(tmp_path / "a.cache", allow_pickle=True)
    assert marker.is_dir()
    marker.rmdir()
    plant_pickle(tmp_path / "a.pt", marker)
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert marker.is_dir()


@pytest.mark.parametrize("plain", [True, False])
def test_a_checkpoint_that_a_training_goes_on_from_is_data(
    tmp_path: Path, marker: Path, plain: bool
) -> None:
    from pipeline.models.yolo_world.trainer import epochs_done

    last = tmp_path / "train" / "weights" / "last.pt"
    plant_pickle(last, marker, plain)
    with pytest.raises(WeightsError, match="is damaged"):
        epochs_done(tmp_path)
    assert not marker.exists()


def test_the_state_that_a_training_goes_on_from_is_data(tmp_path: Path, marker: Path) -> None:
    """Also where somebody put the right sha256 before it."""
    from pipeline.models.yolo_world.training_state import load_state, state_file

    path = state_file(tmp_path)
    plant_pickle(path, marker)
    body = path.read_bytes()
    for data in (body, hashlib.sha256(body).digest() + body):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match="is damaged"):
            load_state(tmp_path)
    assert not marker.exists()


def test_a_checkpoint_that_is_stripped_is_data(tmp_path: Path, marker: Path) -> None:
    """ultralytics' own function unpickles whatever lies there."""
    from pipeline.models.yolo_world.trainer import _finish

    plant_pickle(tmp_path / "last.pt", marker)
    with pytest.raises(WeightsError, match="is damaged"):
        _finish(tmp_path / "last.pt", tmp_path / "best.pt")
    assert not marker.exists()


@pytest.mark.parametrize("plain", [True, False])
def test_a_detector_of_somebody_elses_folder_is_data(
    tmp_path: Path, marker: Path, plain: bool
) -> None:
    best = tmp_path / "train" / "weights" / "best.pt"
    plant_pickle(best, marker, plain)
    write_card(tmp_path, best, sha256_of(best), 64, "yolov8s-world", 0.25)
    TextEmbeddings(("a",), np.eye(1, 512, dtype=np.float32), "fixed").save(
        embeddings_file(tmp_path)
    )
    with pytest.raises(WeightsError):
        load_finetuned(tmp_path, device="cpu")
    with pytest.raises(WeightsError):
        load_yolo_world(best)
    assert not marker.exists()


def test_weights_of_a_wrong_sha256_are_not_even_opened(tmp_path: Path, marker: Path) -> None:
    plant_pickle(tmp_path / "w.pt", marker)
    store = WeightsStore(tmp_path, {"w": Entry("w", "w.pt", "", "MIT", "0" * 64)})
    with pytest.raises(WeightsError, match="sha256"):
        store.get("w")
    assert not marker.exists()


def _sam(path: Path) -> None:
    from pipeline.models.sam.network import _read_state

    _read_state(path)


def _halfway(path: Path) -> None:
    TrainingCheckpoint(path, torch.Generator(), model=torch.nn.Linear(1, 1)).restore()


def _model(path: Path) -> None:
    path.replace(path.with_name("model.safetensors"))
    card = {"kind": "classifier", "sha256": sha256_of(path.with_name("model.safetensors"))}
    write_json(path.with_name("card.json"), card)
    read_artifact(path.parent)


def _embeddings(path: Path) -> None:
    TextEmbeddings.load(path)


def _heatmap(path: Path) -> None:
    path.replace(path.with_suffix(".npy"))
    read_heatmap(path.parent, path.name, (4, 4))


@pytest.mark.parametrize("read", [_sam, _halfway, _model, _embeddings, _heatmap])
@pytest.mark.parametrize("write", [plant_cache, plant_pickle])
def test_what_a_model_folder_holds_is_data(
    tmp_path: Path, marker: Path, read: Callable[[Path], None], write: Callable[..., None]
) -> None:
    write(tmp_path / "a.pt", marker)
    with suppress(Exception):  # whether it is refused or passed over is for others to test
        read(tmp_path / "a.pt")
    assert not marker.exists()


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "object:os.mkdir"])
def test_a_yaml_tag_makes_no_object(tmp_path: Path, marker: Path, tag: str) -> None:
    text = f"!!python/{tag} [{marker}]"
    path = tmp_path / "a.yaml"
    path.write_text(f"names: {text}\n")
    for read in (settings.read_yaml, read_data_yaml):
        with pytest.raises(PipelineError):
            read(path)
    with pytest.raises(ConfigError):
        settings.parse_settings([f"a={text}"])
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["Compose", "OneOf", "Lambda", "from_dict", "load", "os", "core", "BasicTransform",
             "__loader__", "Nonsense", ""],
)  # fmt: skip
def test_an_augmentation_is_a_transform_and_nothing_else(name: str) -> None:
    from pipeline.models.yolo_world.trainer import _transform

    with pytest.raises(ConfigError, match="augmentations"):
        _transform({"name": name, "p": 0.5})


def test_an_augmentation_that_is_a_transform_is_made() -> None:
    from pipeline.models.yolo_world.trainer import _transform

    assert type(_transform({"name": "HorizontalFlip", "p": 0.5})).__name__ == "HorizontalFlip"


_IN_A_PROCESS_OF_ITS_OWN = """
from pipeline.models import ultralytics_offline
ultralytics_offline.load()
from ultralytics import utils
from ultralytics.utils import callbacks
class SomeTrainer:
    callbacks = {}
callbacks.add_integration_callbacks(SomeTrainer)
assert SomeTrainer.callbacks == {}, SomeTrainer.callbacks
assert utils.SAFE_LOAD and not utils.ONLINE and not utils.AUTOINSTALL
"""


@pytest.mark.slow
@pytest.mark.parametrize("text", ['{"mlflow": true, "comet": true, "wandb": true}', "[1]", "\0"])
def test_settings_and_the_environment_start_no_tracker_and_open_no_door(
    tmp_path: Path, marker: Path, text: str
) -> None:
    home = tmp_path / "config" / "Ultralytics"
    home.mkdir(parents=True)
    (home / "settings.json").write_text(text)
    for name in ("mlflow", "comet_ml", "wandb", "clearml", "dvclive"):
        (tmp_path / f"{name}.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCES.parent}",
        "YOLO_CONFIG_DIR": str(tmp_path / "config"),
        "YOLO_OFFLINE": "0",
        "YOLO_AUTOINSTALL": "1",
        "ULTRALYTICS_SAFE_LOAD": "0",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-c", _IN_A_PROCESS_OF_ITS_OWN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not marker.exists()
