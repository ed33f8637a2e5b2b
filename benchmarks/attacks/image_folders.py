"""Samples of folders of photos and masks as other programs write them: Roboflow's semantic masks,
masks of colours with a table, rare BMP and TIFF files, and label files of unusual forms."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

sys.path.append(str(Path(__file__).parents[2] / "tests"))  # its writers of BMP and TIFF

from bmp_bytes import BITFIELDS, RLE8, bmp, rows, run_lengths
from tiff_bytes import BYTE, SHORT, tiff

from .samples import SIZE, Kind, call, draw_image, imported, invoke, write_coco_set
from .values import Places

_MASK = np.zeros(SIZE, np.uint8)
_MASK[5:20, 8:30] = 1
_ON, _NO = _MASK * 255, _MASK * 0
_GREY = [(value, value, value) for value in range(256)]
_BLACK_WHITE = [(0, 0, 0), (255, 255, 255)]
_PALETTE = {320: (SHORT, [0, 65535, *[0] * 254, *[0] * 512])}
_565 = (np.uint16(0xFFFF) * _MASK).astype("<u2")
_RARE: Mapping[str, bytes] = {
    "bit.bmp": bmp(SIZE, 1, rows([np.packbits(row).tobytes() for row in _MASK]),
                   palette=_BLACK_WHITE),
    "runs.bmp": bmp(SIZE, 8, run_lengths(_ON), compression=RLE8, palette=_GREY),
    "topdown.bmp": bmp(SIZE, 8, rows([row.tobytes() for row in _ON], True), palette=_GREY,
                       top_down=True),
    "masks.bmp": bmp(SIZE, 16, rows([row.tobytes() for row in _565]), compression=BITFIELDS,
                     masks=(0xF800, 0x7E0, 0x1F)),
    "alpha.bmp": bmp(SIZE, 32, rows([row.tobytes() for row in np.dstack([_ON] * 4)]),
                     compression=BITFIELDS, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000),
                     header=124),
    "os2.bmp": bmp(SIZE, 24, rows([row.tobytes() for row in np.dstack([_ON] * 3)]), header=12),
    "tiles.tif": tiff(_ON, is_tiled=True),
    "big.tif": tiff(_ON.astype(np.uint16) * 257, is_big_endian=True, is_tiled=True),
    "bit.tif": tiff(np.packbits(_MASK, axis=1), bits=1, colour=0),
    "four.tif": tiff(_MASK[:, 0::2] * 240 | _MASK[:, 1::2] * 15, bits=4),
    "inks.tif": tiff(np.dstack([255 - _ON] * 3 + [_NO]), colour=5),
    "palette.tif": tiff(_MASK, colour=3, tags=_PALETTE),
    "greyalpha.tif": tiff(np.dstack([_ON, _ON]), tags={338: (SHORT, [2])}),
    "unused.tif": tiff(np.dstack([_ON] * 3 + [_NO]), colour=2, tags={338: (SHORT, [0])}),
    "turned.tif": tiff(_ON, tags={274: (SHORT, [3])}),
    "float.tif": tiff(_MASK.astype(np.float32), sample_format=3),
    "pages.tif": tiff(_ON, pages=3, subfile=1),
    "bytes.tif": tiff(_ON, tags={700: (BYTE, [60] * 40)}),
}  # fmt: skip


def _put(path: Path, content: bytes | str | np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        cv2.imwrite(str(path), content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def roboflow_masks(root: Path) -> None:
    """Three splits with masks of values, one of them black, and a table in each."""
    for number, split in enumerate(("train", "valid", "test")):
        for name, mask in (("a", _MASK * (1 + number % 2)), ("b", _NO)):
            _put(root / split / f"{name}.jpg", draw_image(number))
            _put(root / split / f"{name}_mask.png", mask)
        _put(root / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, crack\n2, b\n")


def coloured_masks(root: Path) -> None:
    """Masks of two colours, one with a palette, with a table of names; a name in other letters."""
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[5:20, 8:30], colours[30:40, 8:30] = (0, 30, 200), (128, 128, 128)
    for number, name in enumerate(("A", "b", "c")):
        _put(root / "images" / f"{name}.png", draw_image(number))
    _put(root / "masks" / "a_GT.PNG", colours)
    _put(root / "masks" / "b_GT.png", colours)
    _put(root / "class_dict.csv", "name,r,g,b\nVoid,0,0,0\ncrack,200,30,0\nstain,128,128,128\n")


def rare_pictures(root: Path) -> None:
    """Each rare BMP and TIFF as a photo and as its mask."""
    for name, content in _RARE.items():
        is_photo = not name.startswith(("float", "bit.tif"))
        own = name.replace(".", "_")
        _put(root / "images" / (name if is_photo else f"{own}.png"),
             content if is_photo else draw_image(1))  # fmt: skip
        _put(root / "masks" / name, content)
    for path in sorted((root / "images").iterdir()):  # bit.bmp and bit.tif have one stem
        path.rename(path.with_stem(path.name.replace(".", "_").removesuffix("_png")))
    for path in sorted((root / "masks").iterdir()):
        path.rename(path.with_stem(path.name.replace(".", "_")))


def unusual_coco(root: Path) -> None:
    """A set whose outlines and boxes are text, mappings, five numbers and lines."""
    write_coco_set(root)
    path = root / "annotations" / "instances.json"
    content = json.loads(path.read_text())
    ring = [8, 5, 30, 5, 30, 20, 8, 20]
    points = [{"x": x, "y": y} for x, y in zip(ring[::2], ring[1::2], strict=True)]
    forms: list[dict[str, Any]] = [
        {"segmentation": json.dumps([ring]), "bbox": "[8, 5, 22, 15]"},
        {"segmentation": points, "bbox": {"x": 8, "y": 5, "w": 22, "h": 15}},
        {"segmentation": {"0": ring}, "bbox": [19, 12, 22, 15, 0.5]},
        {"segmentation": [[8, 5, 30, 20]], "area": 0, "bbox": [8, 5, 22, 15]},
    ]
    first = content["annotations"][0]
    content["annotations"] += [{**first, "id": 90 + n, **form} for n, form in enumerate(forms)]
    path.write_text(json.dumps(content))


def yolo_by_classes(root: Path) -> None:
    """Roboflow's darknet: photos, labels and the list of classes in each split."""
    for number, split in enumerate(("train", "valid")):
        _put(root / split / "_darknet.labels", "crack\nstain\n")
        _put(root / split / f"{split}.jpg", draw_image(number))
        _put(root / split / f"{split}.txt", "0 0.3 0.3 0.2 0.2\n1 0.1 0.1 0.5 0.1 0.5 0.5\n")


def _checked(random: Random, places: Places) -> Any:
    return invoke("validate", places.sample, *(["--fix"] if random.random() < 0.5 else []))


def _converted(extra: str = "") -> Any:
    where = "--images {in}/images --masks {in}/masks" if extra != "" else "{in}"
    return call(f"convert-masks {where} {extra} -o {{out}} --workers 1 --keep-going --json")


_PAIRS = "--mask-values auto"
FOLDER_KINDS: Mapping[str, Kind] = {
    "roboflow-masks": Kind(
        roboflow_masks, ("**/*.csv", "**/*_mask.png"),
        [_converted(), _converted(), call("stats {in} --keep-going")], 15,
    ),
    "coloured-masks": Kind(
        coloured_masks, ("*.csv", "masks/*"), [_converted(), _converted(_PAIRS)], 15
    ),
    "rare-pictures": Kind(
        rare_pictures, ("masks/*", "images/*.bmp", "images/*.tif"),
        [_converted("--categories defect"), _converted("--mask-threshold 127")], 25,
    ),
    "coco-unusual": Kind(
        unusual_coco, ("annotations/*.json",), [imported("coco"), call(
            "import {in} --from coco -o {out} --keep-going --json")], 15,
    ),
    "yolo-by-classes": Kind(
        yolo_by_classes, ("**/*.labels", "**/*.txt"), [imported("yolo"), _checked], 15
    ),
}  # fmt: skip
