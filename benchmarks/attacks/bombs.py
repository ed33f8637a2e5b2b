"""Planted files that are small and promise, or become, more than any memory holds."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .foreign import cvat_video
from .pixels import chunk, png_bomb, png_of
from .samples import COCO, Kind, Run, call, config_file, imported, write_coco_set, written
from .values import DEEP, alias_bomb, entity_bomb

_LITTLE = 1 << 30  # bytes that a bomb may take
_HUGE = 1_000_000
_FAR = [1e300, 0, 1e300, 1e300, -1e300, 5]
_READERS = [
    call("import {in} --from coco -o {out}"), call(f"validate {{in}}/{COCO}"),
    call(f"stats {{in}}/{COCO}"), call(f"validate {{in}}/{COCO} --fix"),
    call("convert-masks {in} -o {out} --workers 1"), call("export {in} --to voc -o {out}"),
    call(f"evaluate --truth {{in}}/{COCO} --predictions {{in}}/{COCO}"),
]  # fmt: skip


def bomb(build: Callable[[Path], None], *runs: Run) -> list[Kind]:
    """One attack for each command that meets the file."""
    return [Kind(build, (), [run], memory=_LITTLE) for run in runs]


def _mvtec(image: bytes | None, mask: bytes | None) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        written("mvtec")(root)
        for pattern, data in (("test/*/a.png", image), ("ground_truth/*/a_mask.png", mask)):
            if data:
                next(root.glob(pattern)).write_bytes(data)

    return build


def _coco(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A COCO set whose content is changed; `change` may return another content."""

    def build(root: Path) -> None:
        write_coco_set(root)
        content = json.loads((root / COCO).read_text())
        change(content)
        (root / COCO).write_text(json.dumps(content))

    return build


def _segmented(value: Any) -> Callable[[Path], None]:
    return _coco(lambda content: content["annotations"][0].update(segmentation=value))


def _resized(content: dict[str, Any]) -> None:
    content["images"][0].update(height=_HUGE, width=_HUGE)
    for row in content["annotations"]:
        row["segmentation"] = {"size": [_HUGE, _HUGE], "counts": [5, 10**12 - 5]}


def _text(form: str, name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """A set in a format, with the text of one of its files changed."""

    def build(root: Path) -> None:
        written(form)(root)
        path = next(root.glob(name))
        path.write_text(change(path.read_text()))

    return build


def _entities(text: str) -> str:
    end = text.index(">") + 1
    return f"{entity_bomb()}{text[:end]}&e;{text[end:]}"


def _endless_tracks(root: Path) -> None:
    cvat_video(root)
    for path in (root / "images").iterdir():
        path.unlink()
    path = root / "annotations.xml"
    text = path.read_text().replace(
        "<size>3</size>", "<size>2000000000</size><source>v.avi</source>"
    )
    path.write_text(text)
    (root / "v.avi").write_bytes(b"RIFF\0\0\0\0AVI ")


def _zip(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(root / "task.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", bytes(10**9))


def _brush(text: str) -> str:
    """A stroke of 4 * 10^9 values, which its image's size agrees with."""
    tasks = json.loads(text)
    row = tasks[0]["annotations"][0]["result"][0]
    row["original_height"], row["original_width"] = 32_000, 32_000
    bits = f"{32_000 * 32_000 * 4:032b}{7:05b}0010001101111111"
    bits += "1" + "11" + "1" * 16 + "00000000"
    bits += "0" * (-len(bits) % 8)
    row["value"]["rle"] = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return json.dumps(tasks)


def _all_sizes(*keys: str) -> Callable[[str], str]:
    """Every size in a JSON text made huge."""

    def change(text: str) -> str:
        for key, old in zip(keys, (48, 64), strict=False):
            text = text.replace(f'"{key}": {old}', f'"{key}": {_HUGE}')
        return text

    return change


def _points(text: str) -> str:
    content = json.loads(text)
    for shape in content["shapes"]:
        shape["points"] = np.reshape(_FAR, (3, 2)).tolist()
    return json.dumps(content)


def _yaml(root: Path) -> None:
    config_file(root)
    (root / "job.yaml").write_text(f"device: cpu\nproducts: {alias_bomb()}\n")


def _tiff(root: Path) -> None:
    _mvtec(None, None)(root)
    path = next(root.glob("test/*/a.png"))
    _, data = cv2.imencode(".tif", np.zeros((8, 8), np.uint8))
    width = b"\x00\x01\x03\x00\x01\x00\x00\x00"  # the tag, its type and count
    path.write_bytes(data.tobytes().replace(width + b"\x08", width + b"\xff"))


def _huge_png(colour: int, depth: int) -> bytes:
    """50,000x50,000 pixels of one value."""
    channels = {0: 1, 2: 3}[colour]
    row = b"\0" + b"\0" * (50_000 * channels * depth // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(50_000)) + packer.flush()
    small = png_of(50_000, 50_000, b"", depth, colour)
    return small[:33] + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _huge(depth: int, mask: bool) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        data = _huge_png(0, depth)
        _mvtec(None if mask else data, data if mask else None)(root)

    return build


def _inflating(mask: bool) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        data = png_bomb(3 << 30)
        _mvtec(None if mask else data, data if mask else None)(root)

    return build


_PRODUCT = (
    call("convert-masks {in} -o {out} --workers 1"),
    call("convert-masks {in} -o {out} --workers 1 --keep-going"),
    call("stats {in} --keep-going"),
    call("import {in} --from mvtec -o {out}"),
)
_RLE = "compressed and not: RLE of 10^12 pixels"

BOMBS: Mapping[str, list[Kind]] = {
    "50,000x50,000 PNG as image": bomb(_huge(1, mask=False), *_PRODUCT),
    "50,000x50,000 PNG as mask": bomb(_huge(1, mask=True), *_PRODUCT),
    "PNG that inflates to 3 GB as image": bomb(_inflating(mask=False), *_PRODUCT),
    "PNG that inflates to 3 GB as mask": bomb(_inflating(mask=True), *_PRODUCT),
    "TIFF of 65,535 pixels a side": bomb(_tiff, *_PRODUCT),
    "PNM of 100,000x100,000": bomb(_mvtec(b"P6\n100000 100000\n255\n", None), *_PRODUCT),
    "RLE of 10^12 pixels": bomb(
        _segmented({"size": [_HUGE, _HUGE], "counts": [5, 10**12 - 5]}), *_READERS
    ),
    "compressed RLE of 10^12 pixels": bomb(
        _segmented({"size": [_HUGE, _HUGE], "counts": "PPPPPPPPP1"}), *_READERS
    ),
    "RLE and image of 10^12 pixels": bomb(_coco(_resized), *_READERS),
    "RLE of runs beyond its size": bomb(
        _segmented({"size": [48, 64], "counts": [0, 2**32 - 1, 2**32 - 1]}), *_READERS
    ),
    "polygons at 1e300": bomb(_segmented([_FAR]), *_READERS),
    "polygons at 1e9": bomb(_segmented([[1e9, 0, 1e9, 1e9, -1e9, 5]]), *_READERS),
    "polygons at NaN": bomb(_segmented([[float("nan"), 1, 2, 3, 4, 5]]), *_READERS),
    "boxes at 1e300": bomb(
        _coco(lambda c: c["annotations"][0].update(bbox=[-1e300, 0, 1e300, 1e300])), *_READERS
    ),
    "polygons of LabelMe at 1e300": bomb(
        _text("labelme-polygon", "train/a.json", _points), imported("labelme")
    ),
    "image of LabelMe of 10^12 pixels": bomb(
        _text("labelme-polygon", "train/a.json", _all_sizes("imageHeight", "imageWidth")),
        imported("labelme"),
    ),
    "listing of PNG masks of 10^12 pixels": bomb(
        _text("png", "masks/objects.json", _all_sizes("height", "width")), imported("png")
    ),
    "brush of 4 * 10^9 values": bomb(
        _text("label-studio", "tasks.json", _brush), imported("label-studio")
    ),
    "entities in CVAT": bomb(_text("cvat", "annotations.xml", _entities), imported("cvat")),
    "image of CVAT of 10^12 pixels": bomb(
        _text("cvat", "annotations.xml", lambda text: text.replace('"48"', f'"{_HUGE}"')
              .replace('"64"', f'"{_HUGE}"')), imported("cvat"),
    ),
    "mask of CVAT of 10^12 pixels": bomb(
        _text("cvat", "annotations.xml", lambda text: text.replace('rle="', 'rle="0, 1000000000000,'
              )), imported("cvat"),
    ),
    "tracks of CVAT in 10^9 frames": bomb(_endless_tracks, imported("cvat")),
    "zip of CVAT of 10^9 bytes": bomb(_zip, call("import {in}/task.zip --from cvat -o {out}")),
    "entities in VOC": bomb(_text("voc", "Annotations/train/a.xml", _entities), imported("voc")),
    "entities in Label Studio's interface": bomb(
        _text("label-studio", "label_config.xml", _entities), imported("label-studio")
    ),
    "deep JSON": bomb(
        _text("coco", COCO, lambda _: '{"images":' + "[" * DEEP * 50), *_READERS
    ),
    "aliases in data.yaml": bomb(
        _text("yolo", "data.yaml", lambda text: f"{text}\nextra: {alias_bomb()}\n"),
        imported("yolo"), call("validate {in}"),
    ),
    "aliases as names in data.yaml": bomb(
        _text("yolo", "data.yaml", lambda text: f"{text}\nnames: {alias_bomb()}\n"),
        imported("yolo"), call("validate {in}"),
    ),
    "aliases in a configuration": bomb(_yaml, call("run {in}/job.yaml -o {out}")),
}  # fmt: skip
