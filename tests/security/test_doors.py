"""Every door by which a file could run code, with a canary behind it: a folder that appears as soon
as something is unpickled or executed."""

from __future__ import annotations

import ast
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small import draw_product, narrow_yolo_world

from pipeline.config import load as settings
from pipeline.config.schema import ConvertConfig, FinetuneConfig
from pipeline.errors import ConfigError, DataError, PipelineError, WeightsError
from pipeline.formats.data_yaml import read_data_yaml
from pipeline.formats.yolo_training import read_training_set, write_training_set
from pipeline.io.heatmaps import read_heatmap
from pipeline.io.read import _WordLoader, sha256_of
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
from pipeline.runtime.signals import Stopped
from pipeline.stages.convert_masks import convert_masks

MakeProduct = Callable[..., Path]
SOURCES = Path(__file__).parents[2] / "pipeline"


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("converted")
    convert_masks([draw_product(home / "widget")], home / "data", ConvertConfig(folds=2))
    return home / "data"


@pytest.fixture
def data(converted: Path, tmp_path: Path) -> Path:
    """A set to train on, in which `plant` puts canaries."""
    return Path(shutil.copytree(converted, tmp_path / "data"))


def plant(data: Path, marker: Path) -> None:
    code = f"import os; os.mkdir({str(marker)!r})"
    described = {"train": "images/train", "val": "nowhere", "names": ["a"], "download": code}
    for name in ("data.yaml", "data_fold0.yaml"):
        (data / name).write_text(yaml.safe_dump(described))
    caches = ("labels.cache", "labels/train.cache", "labels/val.cache", "images/train.cache",
              "labels/train/sub.cache", "data.cache", ".cache")  # fmt: skip
    for name in caches:
        plant_cache(data / name, marker)
    for image in (data / "images").rglob("*.png"):
        plant_cache(image.with_suffix(".npy"), marker)
        os.utime(image.with_suffix(".npy"), (2**31, 2**31))


def plant_cache(path: Path, marker: Path) -> None:
    with path.open("wb") as stream:  # np.save to a name would add .npy to it
        np.save(stream, np.array([Canary(marker)], object), allow_pickle=True)


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


@pytest.mark.slow
@pytest.mark.parametrize("fold", [None, 0])
def test_a_training_runs_nothing_that_came_with_its_data(
    data: Path,
    marker: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    fold: int | None,
) -> None:
    from pipeline.stages.finetune_yolo import finetune_yolo

    plant(data, marker)
    config = FinetuneConfig(epochs=1, image_side=64, batch=4, mosaic=0.0, fold=fold)
    with narrow_yolo_world(tmp_path_factory.mktemp("weights")):
        assert finetune_yolo(data, tmp_path / "run", config, device="cpu").epochs_run == 1
    assert not marker.exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"data", "run"}  # no lock, no unfinished folder
    assert not list((tmp_path / "run").rglob("*.cache"))


def test_what_ultralytics_is_given_holds_images_labels_and_lists_alone(
    data: Path, marker: Path, tmp_path: Path
) -> None:
    plant(data, marker)
    root = tmp_path / "set"
    root.mkdir()
    plant_cache(root / "labels.cache", marker)  # of an earlier call
    path = write_training_set(root, read_training_set(data))
    assert yaml.safe_load(path.read_text()).keys() == {"train", "val", "names", "nc"}
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    labels = {p.relative_to(data).as_posix() for p in (data / "labels").rglob("*.txt")}
    labels = {name for name in labels if not name.startswith("labels/test")}
    images = {name.replace("labels/", "images/").replace(".txt", ".png") for name in labels}
    assert files == labels | images | {"data.yaml", "train.txt", "val.txt"}
    for name in labels:
        assert (root / name).read_bytes() == (data / name).read_bytes()


@pytest.mark.parametrize("below", ["", "/train", "/train/sub"])
def test_a_label_cache_is_never_read(data: Path, marker: Path, tmp_path: Path, below: str) -> None:
    """Even one that appears in our own folder, where ultralytics looks for it. The trainer replaces
    the reader of such files."""
    from ultralytics.data import dataset as stock_data

    import pipeline.models.yolo_world.trainer  # noqa: F401

    written = tmp_path / "written"
    write_training_set(written, read_training_set(data))
    root = tmp_path / "set"
    for kind in ("images", "labels"):
        shutil.copytree(written / kind / "train", root / f"{kind}{below}")
    plant_cache(root / f"labels{below}.cache", marker)
    described = {"names": {0: "crack", 1: "stain"}, "channels": 3}
    place = str(root / f"images{below}")
    found = stock_data.YOLODataset(img_path=place, data=described, task="detect")
    assert len(found.labels) > 0
    assert not marker.exists()


@pytest.mark.parametrize("name", ["images/000.png", "000.b.png", "images/images/x y.png"])
def test_labels_are_found_whatever_the_folders_are_called(
    make_product: MakeProduct, tmp_path: Path, name: str
) -> None:
    from ultralytics.data import dataset as stock_data

    data = tmp_path / "images" / "data"
    convert_masks([make_product({"crack": 2}, 0, 0)], data, ConvertConfig(val=0.0, test=0.0))
    path = data / "annotations" / "instances_train.json"
    content = yaml.safe_load(path.read_text())
    source = data / "images" / content["images"][0]["file_name"]
    content["images"][0]["file_name"] = f"train/{name}"
    (data / "images" / "train" / name).parent.mkdir(parents=True, exist_ok=True)
    source.rename(data / "images" / "train" / name)
    write_json(path, content)
    root = tmp_path / "set"
    write_training_set(root, read_training_set(data))
    listed = [str(root / line) for line in (root / "train.txt").read_text().splitlines()]
    assert len(listed) == 2
    for image, label in zip(listed, vars(stock_data)["img2label_paths"](listed), strict=True):
        assert Path(image).is_file()
        assert Path(label).read_text().startswith("0 ")


def _as_array(image: Path) -> str:
    image.rename(image.with_suffix(".npy"))
    return f"train/{image.stem}.npy"


def _as_link(image: Path) -> str:
    outside = image.parents[3] / "outside.png"
    image.rename(outside)
    image.symlink_to(outside)
    return f"train/{image.name}"


def _as_pipe(image: Path) -> str:
    image.unlink()
    os.mkfifo(image)
    return f"train/{image.name}"


def _as_twin(image: Path) -> str:
    shutil.copy(image, image.with_suffix(".bmp"))
    other = next(path for path in sorted(image.parent.glob("*.png")) if path != image)
    shutil.copy(image, other.with_suffix(".jpg"))
    return f"train/{other.stem}.jpg"


@pytest.mark.parametrize(
    ("change", "text"),
    [(_as_array, "no suffix of an image"), (_as_link, "a link that leads out of"),
     (_as_pipe, "no such image"), (_as_twin, "has the same name as")],
)  # fmt: skip
def test_only_images_of_the_set_itself_are_learned_from(
    data: Path, change: Callable[[Path], str], text: str
) -> None:
    path = data / "annotations" / "instances_train.json"
    content = yaml.safe_load(path.read_text())
    entry = content["images"][0]
    entry["file_name"] = change(data / "images" / entry["file_name"])
    write_json(path, content)
    with pytest.raises(DataError, match=text):
        read_training_set(data)


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


@cache
def _calls() -> list[tuple[str, str, ast.Call]]:
    """(file, dotted name, call) of every call in the program's own code."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                place = path.relative_to(SOURCES).as_posix()
                found.append((place, ast.unparse(node.func), node))
    return found


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("torch.load", "weights_only", True), ("np.load", "allow_pickle", False),
     ("torch_safe_load", "safe_only", True)],
)  # fmt: skip
def test_every_loader_is_called_with_its_safe_setting(name: str, key: str, value: bool) -> None:
    calls = [(place, call) for place, called, call in _calls() if called == name]
    assert calls
    for place, call in calls:
        given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
        assert given.get(key) is value, f"{place}:{call.lineno}"


def test_no_other_way_to_run_what_a_file_says_is_in_use() -> None:
    """The Ray runner hands its own work to its own processes."""
    runs = {"eval", "exec", "pickle.load", "pickle.loads", "yaml.unsafe_load", "yaml.full_load",
            "marshal.loads", "shelve.open", "runpy.run_path", "os.system"}  # fmt: skip
    found = {(place, called) for place, called, _ in _calls() if called in runs}
    assert found <= {("runners/ray.py", "pickle.loads")}
    loads = [(place, call) for place, called, call in _calls() if called == "yaml.load"]
    assert [place for place, _ in loads] == ["io/read.py"]
    assert ast.unparse(loads[0][1].args[1]) == "_WordLoader if as_written else _PlainLoader"
    assert _WordLoader.yaml_constructors is yaml.SafeLoader.yaml_constructors


@pytest.mark.parametrize(
    ("error", "passes"),
    [(ValueError("a"), False), (Stopped(15), True), (KeyboardInterrupt(), True)],
)
def test_what_goes_on_after_errors_does_not_go_on_after_a_signal(
    error: BaseException, passes: bool
) -> None:
    """ultralytics draws its plots under a TryExcept, whose own form swallows a signal too."""
    from pipeline.models import ultralytics_offline

    ultralytics_offline.load()
    from ultralytics.utils import TryExcept

    raised = False
    try:
        with TryExcept(verbose=False):
            raise error
    except BaseException as caught:
        raised = caught is error
    assert raised is passes
