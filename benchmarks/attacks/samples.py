"""Small valid samples of every kind of file that the program reads, and the commands that read it.

The program's own writers make them from three drawn images of 48x64.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

from .values import Places, plain_text, yaml_value

SIZE = (48, 64)
_CATEGORIES = ("crack", "stain")
COCO = "annotations/instances.json"
Run = Callable[[Random, Places], Any]  # reads the sample; writes at most below places.output


@dataclass(frozen=True)
class Kind:
    """build: writes a valid sample into a folder. targets: patterns of the files that are changed.
    runs: commands, of which chance takes one. weight: its part of the inputs. memory (bytes) and
    seconds: what one input may take."""

    build: Callable[[Path], None]
    targets: Sequence[str]
    runs: Sequence[Run]
    weight: int = 10
    memory: int = 2 << 30
    seconds: int = 20


def invoke(*arguments: object) -> Any:
    """The command line in this process, without its last layer: errors come out as they are."""
    from pipeline.cli import command

    return command.main([str(a) for a in arguments], prog_name="pipeline", standalone_mode=False)


def call(text: str) -> Run:
    """A command line; {in} and {out} are the sample and the output."""

    def run(_: Random, places: Places) -> Any:
        words = text.replace("{in}", "\0").replace("{out}", "\1").split()
        swaps = {"\0": str(places.sample), "\1": str(places.output)}
        return invoke(
            *(word.replace("\0", swaps["\0"]).replace("\1", swaps["\1"]) for word in words)
        )

    return run


def imported(name: str) -> Run:
    return call(f"import {{in}} --from {name} -o {{out}} --json")


def _exported(_: Random, places: Places) -> Any:
    from pipeline.formats.registry import FORMATS

    form = _.choice(sorted(FORMATS))
    return invoke("export", places.sample, "--to", form, "-o", places.output, "--json")


def draw_masks() -> dict[str, list[tuple[int, np.ndarray]]]:
    """Masks by image, with the label of each: blocks, one with a hole, a line, two parts."""
    canvas = [np.zeros(SIZE, np.uint8) for _ in range(4)]
    canvas[0][5:20, 8:30] = 1
    canvas[0][9:14, 14:22] = 0
    cv2.line(canvas[1], (40, 3), (60, 40), 1)
    cv2.circle(canvas[2], (30, 25), 9, 1, -1)
    canvas[3][40:44, 2:9] = canvas[3][40:44, 12:20] = 1
    drawn = [mask.astype(bool) for mask in canvas]
    return {
        "train/a.png": [(0, drawn[0]), (1, drawn[1])],
        "train/b.png": [(1, drawn[2]), (0, drawn[3])],
        "val/c.png": [],
    }


def draw_image(number: int) -> np.ndarray:
    """An image of few bytes as a file."""
    image = np.full((*SIZE, 3), 40 + 20 * number, np.uint8)
    cv2.rectangle(image, (8, 5), (29, 19), (200, 180 - number, 90), -1)
    return image


def write_coco_set(root: Path, scores: bool = False) -> None:
    """A COCO folder as `import` and `export` read it."""
    from pipeline.formats.coco import write_coco
    from pipeline.geometry.masks import bounding_boxes, encode
    from pipeline.types import Dataset, Detections, ImageRecord

    records, objects = [], {}
    for number, (name, marked) in enumerate(draw_masks().items(), start=1):
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw_image(number))
        records.append(ImageRecord(number, path, name, *SIZE, split=name.split("/")[0]))
        masks = tuple(encode(mask) for _, mask in marked)
        labels = np.array([label for label, _ in marked], np.int64)
        trust = np.linspace(0.9, 0.5, len(marked), dtype=np.float32) if scores else None
        objects[number] = Detections(bounding_boxes(masks), labels, trust, masks)
    write_coco(root / COCO, Dataset(_CATEGORIES, tuple(records), objects))


def written(form: str, scores: bool = False) -> Callable[[Path], None]:
    """A sample that `export --to` wrote, without the files beside the format's own."""

    def build(root: Path) -> None:
        source = root.with_name(f"{root.name}-source")
        write_coco_set(source, scores)
        invoke("export", source, "--to", form, "-o", root, "--copy-images", "-q")
        for extra in ("run.json", "manifest.jsonl", "fidelity.json", "fidelity.csv"):
            (root / extra).unlink(missing_ok=True)
        shutil.rmtree(root / "fidelity", ignore_errors=True)
        shutil.rmtree(source)

    return build


def _sharded(root: Path) -> None:
    from pipeline.formats.shards import shard_coco

    write_coco_set(root)
    shard_coco(root / COCO, 2)


def _with_split(root: Path) -> None:
    """A product with the split.json that convert-masks writes, and good images."""
    written("mvtec")(root / "product")
    for number in range(4):
        good = root / "product" / "train" / "good" / f"g{number}.png"
        good.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(good), draw_image(number))
    made = root / "made"
    invoke("convert-masks", root / "product", "-o", made, "--workers", 1, "-q")
    shutil.copy(made / "split.json", root / "split.json")
    shutil.rmtree(made)


def _results(root: Path) -> None:
    written("coco-results", scores=True)(root)
    source = root / "truth"
    write_coco_set(source)
    shutil.rmtree(source / "images")


def _label_listing(root: Path) -> None:
    """A COCO set with PNG masks beside it; every text file that a set can have is there."""
    written("voc")(root)
    if not list((root / "ImageSets").rglob("*.txt")):
        raise AssertionError("VOC's lists are missing")


def config_file(root: Path) -> None:
    import yaml

    from pipeline.config.schema import RunConfig

    root.mkdir(parents=True, exist_ok=True)
    content = RunConfig().model_dump(mode="json")
    content["products"] = ["zipper"]
    (root / "job.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    study = {"experiments": {"plain": {"epochs": 2}, "best": {"backbone": "resnet50"}}, "folds": 2}
    (root / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")


_KEYS = (
    "finetune.epochs", "convert.val", "segment.views.crop_scales", "anomalies", "output",
    "device", "=",
    "segment.cache_gb", "classify", "products", "a.b.c", "", ".", "..", "finetune", "\0",
    "finetune.augmentations", "synthesize.long_tail", "segment.split",
)  # fmt: skip


def _parsed_config(random: Random, places: Places) -> Any:
    """The configuration that the command line builds, and the key of its run."""
    kind, name = random.choice([("RunConfig", "job"), ("StudyConfig", "study")])
    return _built(kind, places.sample / f"{name}.yaml", ())


def _parsed_settings(random: Random, places: Places) -> Any:
    value = yaml_value(random, places) if random.random() < 0.7 else plain_text(random, places)
    value = value[:100_000].encode("utf-8", "replace").decode()
    setting = f"{random.choice(_KEYS)}={value}" if random.random() < 0.95 else value
    return _built("RunConfig", places.sample / "job.yaml", (setting,))


def _built(kind: str, path: Path, settings: tuple[str, ...]) -> None:
    from pipeline.cli.generated import build_config
    from pipeline.io.run_record import config_key
    from pipeline.io.write import json_text

    config = build_config(kind, path, settings, {}, {}).model_dump(mode="json")
    config_key("run", config)
    json_text(config).encode()


def _validated(_: Random, places: Places) -> Any:
    fix = ["--fix"] if _.random() < 0.5 else []
    name = COCO if (places.sample / "annotations").exists() else ""
    return invoke("validate", places.sample / name, *fix, "--json")


def _converted(extra: str = "") -> Run:
    return call(f"convert-masks {{in}}{extra} -o {{out}} --workers 1 --keep-going --json")


_COCO_RUNS = [imported("coco")] * 6 + [_exported] * 3 + [call("stats {in}/" + COCO), _converted()]
_JUDGED = call("evaluate --truth {in}/truth/annotations/instances.json"
                " --predictions {in}/both.json --json")  # fmt: skip
_JSON = ("**/*.json",)

LABEL_KINDS: Mapping[str, Kind] = {
    "coco": Kind(write_coco_set, _JSON, _COCO_RUNS, 40),
    "coco-polygon": Kind(written("coco-polygon"), _JSON, _COCO_RUNS, 30),
    "coco-results": Kind(_results, ("*.json",), [imported("coco-results")], 20),
    "cvat": Kind(written("cvat"), ("*.xml",), [imported("cvat")], 30),
    "cvat-coco": Kind(written("cvat-coco"), _JSON, [imported("cvat-coco")], 15),
    "label-studio": Kind(
        written("label-studio"), ("*.json", "*.xml"), [imported("label-studio")], 30
    ),
    "labelme": Kind(written("labelme"), ("**/*.json", "*.txt"), [imported("labelme")], 25),
    "labelme-polygon": Kind(
        written("labelme-polygon"), ("**/*.json", "*.txt"), [imported("labelme")], 20
    ),
    "parquet": Kind(written("parquet"), ("*.parquet",), [imported("parquet")], 20),
    "png": Kind(written("png"), ("masks/*.json", "masks/**/*.png"), [imported("png")], 20),
    "voc": Kind(
        _label_listing, ("**/*.xml", "**/*.txt", "Segm*/**/*.png"), [imported("voc")], 30
    ),
    "yolo": Kind(written("yolo"), ("*.yaml", "**/*.txt"), [imported("yolo")], 25),
    "yolo-segment": Kind(written("yolo-segment"), ("*.yaml", "**/*.txt"), [imported("yolo")], 25),
    "mvtec": Kind(
        written("mvtec"),
        ("test/**/*.png", "ground_truth/**/*.png"),
        [imported("mvtec")] * 3 + [_converted(), call("stats {in} --keep-going")],
        15,
    ),
    "shards": Kind(
        _sharded,
        _JSON,
        [imported("coco"), _exported, call("validate {in}/annotations/instances.index.json")],
        20,
    ),
    "split": Kind(
        _with_split, ("split.json",), [_converted("/product --split-file {in}/split.json")], 10
    ),
    "config": Kind(config_file, ("*.yaml",), [_parsed_config], 15),
    "set": Kind(config_file, (), [_parsed_settings], 15),
    "validate-coco": Kind(write_coco_set, _JSON, [_validated], 25),
    "validate-yolo": Kind(
        written("yolo-segment"), ("*.yaml", "**/*.txt", "images/**/*.png"), [_validated], 20
    ),
}  # fmt: skip


def picks(kind: Kind, sample: Path) -> list[Path]:
    """The files of a sample that may be changed, in a fixed order."""
    paths = {path for pattern in kind.targets for path in sample.glob(pattern)}
    return sorted(path for path in paths if path.is_file() and path.stat().st_size)
