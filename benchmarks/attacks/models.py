"""Samples of what is read beside labels: pictures, heat maps, work logs, models, finished runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from pydantic import TypeAdapter

from .samples import SIZE, Kind, call, draw_image, draw_masks, invoke, written
from .values import Places

_TORCH = {"memory": 6 << 30, "seconds": 60}  # for commands that load torch
_STATE = "state"  # in a sample: what lies in the folder of results before the command begins
_MODEL = ("--model autoencoder --device cpu --set steps=1 --set picture_side=32 --set latent=4"
          " --set folds=2")  # fmt: skip


def _pictures(root: Path) -> None:
    """Every kind of picture that is read, small."""
    from PIL import Image

    root.mkdir(parents=True, exist_ok=True)
    colours = draw_image(1)
    grey = colours[:, :, 0]
    mask = draw_masks()["train/a.png"][0][1]
    for name in ("rgb.png", "b.jpg", "c.bmp", "d.tif", "e.webp"):
        cv2.imwrite(str(root / name), colours)
    cv2.imwrite(str(root / "grey.png"), grey)
    cv2.imwrite(str(root / "mask.png"), mask.astype(np.uint8) * 255)
    cv2.imwrite(str(root / "deep.png"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(root / "deep.tif"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(root / "alpha.png"), np.dstack([colours, grey]))
    Image.fromarray(mask).save(root / "bit.png")
    Image.fromarray(grey).convert("P").save(root / "palette.png")
    Image.fromarray(grey).save(
        root / "frames.tif", save_all=True, append_images=[Image.fromarray(grey[::2, ::2])]
    )
    Image.fromarray(colours).convert("CMYK").save(root / "cmyk.jpg")


def _read_pictures(_: Random, places: Places) -> Any:
    """Every reader on every picture; a refusal of one does not end the others."""
    from pipeline.errors import DataError
    from pipeline.io.images import images_below, read_image, read_size
    from pipeline.io.mask_files import read_indices, read_mask

    refused: DataError | None = None
    for path in images_below(places.sample):
        for read in (read_size, read_image, read_mask, read_indices):
            try:
                read(path)
            except DataError as error:
                refused = error
    if refused:
        raise refused


def _heat_maps(root: Path) -> None:
    heat = np.linspace(0, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / "a.npy", heat)
    cv2.imwrite(str(root / "b.png"), (heat * 255).astype(np.uint8))


def _read_heat(_: Random, places: Places) -> Any:
    from pipeline.io.heatmaps import read_heatmap

    for name in ("a.png", "b.png"):
        read_heatmap(places.sample, name, SIZE)


def _work_log(root: Path) -> None:
    from pipeline.io.work_log import WorkLog

    path = root / _STATE / "out" / "work.sqlite"
    path.parent.mkdir(parents=True)
    with WorkLog(path, "images", TypeAdapter(int)) as log:
        for item in range(1, 4):
            log.add(item, item, ['{"id": 1, "bbox": [1, 2, 3, 4]}'] * item)


def _open_work_log(_: Random, places: Places) -> Any:
    from pipeline.io.work_log import WorkLog

    with WorkLog(places.output / "work.sqlite", "images", TypeAdapter(int)) as log:
        counts = list(log.values())
        rows = [json.loads(log.row_at(number)) for number, _ in log.rows()]
        log.add(9, 1, ["{}"])
        if len(rows) != sum(counts):
            raise AssertionError("a work log with other rows than its values say is accepted")


def _product(root: Path) -> None:
    """Good images and two defects in MVTec's layout."""
    written("mvtec")(root)
    for number in range(6):
        good = root / ("train" if number < 4 else "test") / "good" / f"g{number}.png"
        good.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(good), draw_image(number))


def _anomaly_model(root: Path) -> None:
    _product(root / "product")
    invoke("anomaly", "--data", root / "product", "-o", root / "model", *_MODEL.split(), "-q")


def _classifier(root: Path) -> None:
    _product(root / "product")
    words = "--backbone mobilenet_v2 --pretrained no --epochs 1 --image-side 32 --device cpu -q"
    invoke("classify", "--data", root / "product", "-o", root / "model", *words.split())


def _segmenter(root: Path) -> None:
    """Masks as a converted set, and a network that learned from them for a step."""
    _product(root / "product")
    words = "--val 0 --test 0 --group-by none --workers 1 -q"
    invoke("convert-masks", root / "product", "-o", root / "data", *words.split())
    words = "--pretrained no --decoder-steps 1 --steps 1 --batch 1 --device cpu -q"
    invoke("finetune-segmenter", "--data", root / "data", "-o", root / "model", *words.split())


def _stopped(root: Path) -> None:
    """A run of `anomaly` that ends by a fault at the third tested image."""
    from unittest import mock

    from pipeline.errors import DataError
    from pipeline.io.heatmaps import write_heatmap
    from pipeline.stages import anomaly

    _product(root / "product")
    left = [None, None]

    def stop(*arguments: Any) -> None:
        if not left:
            raise DataError("x", "stopped")
        left.pop()
        real(*arguments)

    real = write_heatmap
    output = root.parent / "results" / "out"
    with mock.patch.object(anomaly, "write_heatmap", stop):
        try:
            invoke("anomaly", "--data", root / "product", "-o", output, *_MODEL.split(), "-q")
        except DataError:
            shutil.copytree(output.parent, root / _STATE)
            shutil.rmtree(output.parent)
            output.parent.mkdir()


def _finished(root: Path) -> None:
    """An import, and what it wrote."""
    written("png")(root / "set")
    output = root.parent / "results" / "out"
    invoke("import", root / "set", "--from", "png", "-o", output, "--copy-images", "-q")
    shutil.copytree(output.parent, root / _STATE)
    shutil.rmtree(output.parent)
    output.parent.mkdir()


def _job(root: Path) -> None:
    """The folder of a whole job, as far as report and compare read it."""
    _product(root / "product")
    run = root / "run"
    words = ["--test", "0.5", "--val", "0.2", "--group-by", "none", "--workers", "1", "-q"]
    invoke("convert-masks", root / "product", "-o", run / "data", *words)
    held = next((run / "data" / "annotations").glob("instances_test.json"))
    for name in ("evaluation_truth_boxes", "evaluation_detector_boxes"):
        invoke("evaluate", "--truth", held, "--predictions", held, "-o", run / name, "-q",
               "--images", run / "data" / "images")  # fmt: skip
    words = [*_MODEL.split(), "--split-file", str(run / "data" / "split.json"), "-q"]
    invoke("anomaly", "--data", root / "product", "-o", run / "anomaly_autoencoder", *words)
    for path in run.rglob("model.safetensors"):
        path.unlink()


def _detector(root: Path) -> None:
    plain_detector(root, b"PK\3\4 no checkpoint" * 10)


def plain_detector(root: Path, checkpoint: bytes) -> None:
    """A detector's folder that is right but for its checkpoint, whose hash is right too."""
    import hashlib

    from pipeline.models.text.embeddings import TextEmbeddings

    weights = root / "model" / "train" / "weights" / "best.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(checkpoint)
    TextEmbeddings(("crack",), np.ones((1, 512), np.float32), "fixed").save(
        root / "model" / "text_embeddings.safetensors"
    )
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    card = {"kind": "yolo-world", "confidence": 0.25, "checkpoint": "train/weights/best.pt",
            "sha256": digest, "image_side": 64, "base": "yolov8s-world"}  # fmt: skip
    (root / "model" / "card.json").write_text(json.dumps(card))
    (root / "product").mkdir()
    cv2.imwrite(str(root / "product" / "a.png"), draw_image(0))


def _tuned_sam(root: Path) -> None:
    import hashlib
    from dataclasses import asdict

    import torch
    from safetensors.torch import save_file

    from pipeline.models.sam.model import CARD, DELTA
    from pipeline.models.sam.views import ViewOptions

    root.mkdir(parents=True, exist_ok=True)
    save_file({"mask_decoder.x": torch.zeros(3)}, root / DELTA)
    (root / "base.pt").write_bytes(b"a base")
    digests = [hashlib.sha256((root / n).read_bytes()).hexdigest() for n in ("base.pt", DELTA)]
    card = {"base": {"name": "mobile_sam", "sha256": digests[0]}, "delta_sha256": digests[1],
            "kind": "sam", "views": asdict(ViewOptions()), "calibration": None, "patch_prior": None,
            "about": {}}  # fmt: skip
    (root / CARD).write_text(json.dumps(card))


def _open_tuned(_: Random, places: Places) -> Any:
    """The card of a tuned SAM, with a base that is here."""
    import hashlib

    from pipeline.models.sam.model import load_sam
    from pipeline.models.weights.store import Entry, WeightsStore

    base = places.sample / "base.pt"
    digest = hashlib.sha256(base.read_bytes()).hexdigest()
    entry = Entry("mobile_sam", "base.pt", "", "", digest)
    load_sam(str(places.sample), WeightsStore(places.sample, {"mobile_sam": entry}))


PREDICT = call("predict {in}/product --model {in}/model -o {out} --device cpu --json")
_EXPORT = call("export-model {in}/model -o {out} --format onnx")
_CARDS = ("model/*.json", "model/*.jsonl")

MORE_KINDS: Mapping[str, Kind] = {
    "pictures": Kind(_pictures, ("*",), [_read_pictures], 40),
    "heat maps": Kind(_heat_maps, ("*",), [_read_heat], 15),
    "work log": Kind(_work_log, (f"{_STATE}/out/*",), [_open_work_log], 15),
    "stopped run": Kind(
        _stopped, (f"{_STATE}/.out.*/*.json", f"{_STATE}/.out.*/.work/*"),
        [call("anomaly --data {in}/product -o {out} " + _MODEL)], 1, **_TORCH,
    ),
    "finished run": Kind(
        _finished, (f"{_STATE}/**/*.json*", f"{_STATE}/**/*.png"),
        [call("import {in}/set --from png -o {out} --copy-images --json")], 15,
    ),
    "anomaly model": Kind(_anomaly_model, _CARDS, [PREDICT], 3, **_TORCH),
    "classifier": Kind(_classifier, _CARDS, [PREDICT], 2, **_TORCH),
    "segmenter": Kind(_segmenter, _CARDS, [PREDICT], 2, **_TORCH),
    "detector": Kind(
        _detector, ("model/*.json", "**/*.pt", "**/*.safetensors"), [PREDICT], 3, **_TORCH
    ),
    "tuned SAM": Kind(_tuned_sam, ("*.json", "*.safetensors"), [_open_tuned], 5, **_TORCH),
    "job": Kind(
        _job, ("run/**/run.json", "run/**/scores.json", "run/**/heatmaps/**/*", "run/**/*.png",
               "run/**/instances_*.json"),
        [call("report {in}/run -o {out}/report.html"),
         call("compare {in}/run -o {out} --device cpu")], 2, **_TORCH,
    ),
}  # fmt: skip
HEAT, STOPPED, DETECTOR = (MORE_KINDS[name] for name in ("heat maps", "stopped run", "detector"))
