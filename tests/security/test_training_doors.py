"""Nothing that comes with the data of a training runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from canary import MakeProduct, plant_cache
from small import draw_product, narrow_yolo_world

from pipeline.config.schema import ConvertConfig, FinetuneConfig
from pipeline.errors import DataError
from pipeline.formats.yolo_training import read_training_set, write_training_set
from pipeline.io.write import write_json
from pipeline.stages.convert_masks import convert_masks


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
