"""Planted names and links: what would write outside the output, or bring files into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from .samples import COCO, Kind, Run, call, imported, invoke, write_coco_set, written
from .values import Places, names

_FORMATS = ("coco", "coco-polygon", "coco-results", "cvat", "cvat-coco", "label-studio", "labelme",
            "labelme-polygon", "mvtec", "png", "voc", "yolo", "yolo-segment")  # fmt: skip


def _hostile(places: Places) -> list[str]:
    """A few of the worst names, because each goes through every writer."""
    outside = str(places.outside)
    return [
        f"{outside}/new", f"{outside}/victim", "../../outside/new", "../new", "..", ".", "/", "",
        "a/../../../outside/new", "C:\\new", "\\\\host\\share", "a\0b", "n" * 300, "\u00e9" * 200,
        "con", "a\nb", "\ud800", "run.json", "~/new", "a/b", ".hidden", "x\u202ey",
        *names(places)[:4],
    ]  # fmt: skip


def _renamed(field: str, name: str) -> Callable[[dict[str, Any]], None]:
    """What puts a name into one field of a COCO file."""

    def change(content: dict[str, Any]) -> None:
        if field == "category":
            content["categories"][0]["name"] = name
        elif field == "supercategory":
            content["categories"][0]["supercategory"] = name
        else:
            for entry in content["images"]:
                stem = f"{name}/{entry['id']}.png" if field == "file_name" else name
                entry[field] = stem

    return change


def _through(commands: Callable[[Path, Path], list[list[object]]], field: str) -> Run:
    """Run commands on a COCO set for every hostile name in a field; refusals are passed over."""

    def run(_: Random, places: Places) -> None:
        from pipeline.errors import PipelineError

        path = places.sample / COCO
        text = path.read_text(encoding="utf-8")
        for number, name in enumerate(_hostile(places)):
            content = json.loads(text)
            _renamed(field, name)(content)
            source = places.results / f"out-source-{number}"
            (source / "annotations").mkdir(parents=True)
            (source / COCO).write_text(json.dumps(content))
            shutil.copytree(places.sample / "images", source / "images")
            for command in commands(source, places.results / f"out-{number}"):
                try:
                    invoke(*command)
                except PipelineError:
                    continue

    return run


def _exports(form: str) -> Callable[[Path, Path], list[list[object]]]:
    return lambda source, out: [
        ["export", source, "--to", form, "-o", out, "-q"],
        ["import", out, "--from", form, "-o", f"{out}-back", "-q"],
    ]


def _uses(source: Path, out: Path) -> list[list[object]]:
    truth = source / COCO
    return [
        ["import", source, "--from", "coco", "-o", out, "-q"],
        ["convert-masks", source, "-o", f"{out}-c", "--workers", 1, "-q", "--keep-going"],
        ["stats", truth, "-q"],
        ["validate", truth, "-q"],
        ["evaluate", "--truth", truth, "--predictions", truth, "--images", source / "images",
         "-o", f"{out}-e", "-q", "--set", "grabcut=false"],
    ]  # fmt: skip


_FIELDS = ("category", "file_name", "defect", "source_split", "split", "product", "group")

NAMES: Mapping[str, list[Kind]] = {
    **{
        f"names in {field} to {form}": [Kind(write_coco_set, (), [_through(_exports(form), field)])]
        for field in _FIELDS
        for form in _FORMATS
    },
    **{
        f"names in {field}, other verbs": [Kind(write_coco_set, (), [_through(_uses, field)])]
        for field in ("category", "file_name", "defect", "split")
    },
}


def _linked(form: str, pattern: str, target: Callable[[Places], Path]) -> Callable[[Path], None]:
    """A set of which one file, or folder, is a link to outside."""

    def build(root: Path) -> None:
        written(form)(root)
        path = sorted(root.glob(pattern))[0]
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        path.symlink_to(target(Places(root.parent)))

    return build


def _reads(form: str) -> list[Run]:
    origin = form.removesuffix("-polygon") if form.startswith("labelme") else form
    origin = "yolo" if form.startswith("yolo") else origin
    return [imported(origin), call(f"import {{in}} --from {origin} -o {{out}} --copy-images")]


_IMAGES = {"coco": "images/*/a.png", "coco-results": "images/*/a.png", "cvat": "images/*/a.png",
           "cvat-coco": "images/*/a.png", "label-studio": "images/*/a.png", "png": "images/*/a.png",
           "labelme": "*/a.png", "voc": "JPEGImages/*/a.png", "yolo": "images/*/a.png",
           "mvtec": "test/*/a.png"}  # fmt: skip
_FOLDERS = {"coco": "images", "yolo": "images", "voc": "JPEGImages/*", "mvtec": "test/*"}
_TEXTS = {"labelme": "labels.txt", "voc": "labelmap.txt", "yolo": "data.yaml",
          "label-studio": "label_config.xml", "coco": COCO,
          "png": "masks/objects.json"}  # fmt: skip


def _kinds(form: str, pattern: str, target: Callable[[Places], Path]) -> list[Kind]:
    return [Kind(_linked(form, pattern, target), (), [run]) for run in _reads(form)]


def _secret(places: Places) -> Path:
    return places.secret


def _photo(places: Places) -> Path:
    return places.photo


def _outside(places: Places) -> Path:
    return places.outside


LINKS: Mapping[str, list[Kind]] = {
    **{f"image of {f} to a secret": _kinds(f, p, _secret) for f, p in _IMAGES.items()},
    **{f"image of {f} to a photo outside": _kinds(f, p, _photo) for f, p in _IMAGES.items()},
    **{f"folder of {f} to outside": _kinds(f, p, _outside) for f, p in _FOLDERS.items()},
    **{f"text of {f} to a secret": _kinds(f, p, _secret) for f, p in _TEXTS.items()},
}


def _state(entry: str, target: str) -> Callable[[Path], None]:
    """A set, and in the folder of results a link to outside under a name that runs use."""

    def build(root: Path) -> None:
        written("png")(root)
        link = root / "state" / entry
        link.parent.mkdir(parents=True)
        link.symlink_to(Places(root.parent).outside / target)

    return build


def _job(picture: str) -> Callable[[Path], None]:
    """The folder of a job, of which one picture is a link to a secret."""

    def build(root: Path) -> None:
        write_coco_set(root / "set")
        invoke("convert-masks", root / "set", "-o", root / "run" / "data", "--workers", 1, "-q")
        link = root / "run" / picture
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Places(root.parent).secret)

    return build


_PICTURES = ("sam/mask_iou.png", "stats/images_per_category.png", "detector/curves.png",
             "evaluation_truth_boxes/gallery/best_0_1.00_x.png",
             "masks_from_detector/overlays/a.png")  # fmt: skip
REPORTS: Mapping[str, list[Kind]] = {
    f"report: {picture} to a secret": [
        Kind(_job(picture), (), [call("report {in}/run -o {out}/report.html")])
    ]
    for picture in _PICTURES
}
_AROUND = (".out.lock", ".out.part", ".out.old", ".out.unfinished", "out", ".out.part/images",
           "out/run.json", "out/manifest.jsonl")  # fmt: skip

AROUND: Mapping[str, list[Kind]] = {
    f"{entry} is a link to {target or 'a folder'} outside": [
        Kind(_state(entry, target), (), [call("import {in} --from png -o {out}")])
    ]
    for entry in _AROUND
    for target in ("", "victim.txt", "not-there")
}
