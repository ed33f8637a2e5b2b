"""`pipeline convert-masks`: ground-truth masks to COCO, YOLO and PNG, saying what was lost.

Each image goes through on its own, in as many processes as there are cores; what comes back is text
and figures, which are written as they come. So memory does not grow with the pixels of a set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import ConvertConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.coco import image_text, parse_row_texts, row_texts
from pipeline.formats.coco_stream import CocoWriter, coco_writer
from pipeline.formats.datasets import read_datasets
from pipeline.formats.mvtec import group_by, read_defect_values
from pipeline.formats.png_masks import read_png_mask, write_png_mask
from pipeline.formats.yolo import parse_labels, splits_of, write_data_yaml, write_yolo_image
from pipeline.geometry.masks import encode_patches, to_patch
from pipeline.geometry.patches import Patch, split_instances
from pipeline.io.names import safe_component
from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_text
from pipeline.metrics.fidelity import Comparison, compare
from pipeline.reports.fidelity import FidelityReport, fidelity_report
from pipeline.runners import Runner, map_items
from pipeline.runtime.progress import track
from pipeline.splits import assign_splits, folds, read_split, write_split
from pipeline.types import GOOD, Dataset, Detections, ImageRecord


@dataclass(frozen=True)
class Plan:
    """What every image of a conversion has in common."""

    folder: Path
    categories: tuple[str, ...]
    config: ConvertConfig


@dataclass(frozen=True)
class Converted:
    """One image, converted: its COCO texts, what each format kept, and what was lost."""

    image: str
    rows: Sequence[str]
    kept: Mapping[str, Comparison]
    specks: int = 0
    pixels: int = 0
    pixels_in_coco: int = 0
    grey: bool = False


@dataclass
class Losses:
    """What a whole conversion lost, added up image by image."""

    images: int = 0
    instances: int = 0
    specks_dropped: int = 0
    pixels_in_masks: int = 0
    pixels_in_coco: int = 0
    masks_with_grey_values: int = 0
    defect_images_without_instance: list[str] = field(default_factory=list)
    splits: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, record: ImageRecord, found: Converted) -> None:
        """Count one image."""
        row = self.splits.setdefault(record.split, {"images": 0, "good": 0, "instances": 0})
        row["images"] += 1
        row["good"] += record.defect == GOOD
        row["instances"] += len(found.rows)
        self.images += 1
        self.instances += len(found.rows)
        self.specks_dropped += found.specks
        self.pixels_in_masks += found.pixels
        self.pixels_in_coco += found.pixels_in_coco
        self.masks_with_grey_values += found.grey
        if record.mask_path is not None and not found.rows:
            self.defect_images_without_instance.append(str(record.path))


def convert_masks(
    products: Sequence[Path],
    output: Path,
    config: ConvertConfig,
    keep_going: bool = False,
    runner: Runner = "local",
    workers: int = 0,
    images: Path | None = None,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Convert MVTec products, or COCO sets with masks, into `output`; see annotations/README.md for
    what lies where. images: the folder of the COCO files' images. allow_outside: images may lie, or
    lead, outside it and the products. COCO images that all have a split, or lie in a folder of its
    name, keep it.

    Returns counts, what was lost, what each format keeps, and the faults that `keep_going` passed
    over. `exit_code` is 1 when an instance keeps an IoU under `config.min_iou`.
    """
    reads = [*products, images, config.split_file]
    record = RunRecord("convert-masks", config.model_dump(mode="json"), reads)
    faults = Faults(keep_going)
    dataset = read_datasets(products, faults, images, allow_outside)
    if config.group_by:
        dataset = group_by(dataset, config.group_by)
    dataset = _parted(dataset, config)
    dataset.refuse_equal_stems()
    with record.whole_folder(output) as folder:
        work = partial(convert_image, plan=Plan(folder, dataset.categories, config))
        losses = Losses()
        items = [(record, dataset.objects.get(record.id)) for record in dataset.records]
        with (
            fidelity_report(folder) as report,
            closing(map_items(work, items, runner, workers)) as done,
        ):
            converted = _written(dataset, track(done, "convert", len(dataset.records)), faults,
                                 losses, report, folder, config)  # fmt: skip
        _write_lists(folder, converted, config)
        kept = report.finish(folder)
        poor = report.below(config.min_iou) if config.min_iou else 0
        summary = {
            "output": str(output),
            **vars(losses),
            "categories": list(dataset.categories),
            "fidelity": kept,
            "instances_below_min_iou": poor,
            "faults": [str(error) for error in faults.found],
        }
        record.write(folder, summary)
    return summary | ({"exit_code": 1} if poor else {})


def convert_image(item: tuple[ImageRecord, Detections | None], plan: Plan) -> Converted | DataError:
    """Convert one image, from its mask file unless its objects are known: write its YOLO labels and
    its PNG mask, and hold every format against the source's pixels after its own reader has read it
    back.

    A fault of the mask file is returned; one in writing, such as a full disk, is raised.
    """
    record, known = item
    if known is not None:
        return _converted(record, known, [to_patch(rle) for rle in known.masks or ()], plan)
    try:
        values = read_defect_values(record)
    except DataError as error:
        return error
    if values is None:
        return _converted(record, Detections.none(), [], plan)
    config = plan.config
    mask = np.asarray(values > config.mask_threshold)
    patches, specks = split_instances(mask, config.one_instance, config.min_area, config.bridge_gap)
    label = plan.categories.index(record.defect)
    objects = Detections.from_masks(encode_patches(patches, *record.size), label)
    return replace(
        _converted(record, objects, patches, plan),
        specks=specks,
        pixels=int(np.count_nonzero(mask)),
        grey=_is_grey(values, patches),
    )


def _converted(
    record: ImageRecord, objects: Detections, patches: Sequence[Patch], plan: Plan
) -> Converted:
    loss = plan.config.polygon_loss if plan.config.polygons else None
    rows = row_texts(record, objects, loss)
    kept = _write(record, patches, objects, plan, rows)
    return Converted(
        image=image_text(record),
        rows=rows,
        kept=kept,
        pixels=sum(patch.area for patch in patches),
        pixels_in_coco=sum(row.area_read for row in kept["coco"].rows) if kept else 0,
    )


def _write(
    record: ImageRecord, patches: Sequence[Patch], objects: Detections, plan: Plan,
    rows: Sequence[str],
) -> dict[str, Comparison]:  # fmt: skip
    """Write an image's own files; returns what each format, read back, kept of its objects."""
    copy, loss = plan.config.copy_images, plan.config.polygon_loss
    boxes = write_yolo_image(plan.folder, record, objects, False, copy)
    rings = write_yolo_image(plan.folder / "segment", record, objects, True, copy, loss)
    if not len(objects):
        return {}
    write_png_mask(plan.folder / "masks", record, objects)
    path = plan.folder / "masks" / Path(record.file_name).with_suffix(".png")
    count, size = len(plan.categories), record.size
    read = {
        "coco": parse_row_texts(rows, size, count),
        "yolo": parse_labels(boxes, size, count),
        "yolo-segment": parse_labels(rings, size, count),
        "png": read_png_mask(path, len(objects)),
    }
    return {name: compare(objects, found, *size, patches) for name, found in read.items()}


def _is_grey(values: np.ndarray[Any, Any], patches: Sequence[Patch]) -> bool:
    """Whether a mask has values between 0 and its greatest, as soft or resampled edges have."""
    for patch in patches:
        x0, y0, x1, y1 = patch.box
        inside = values[y0:y1, x0:x1][patch.pixels]
        if inside.min() != inside.max():
            return True
    return False


def _parted(dataset: Dataset, config: ConvertConfig) -> Dataset:
    if config.split_file:
        parted = read_split(config.split_file, dataset)
    elif all(record.split for record in dataset.records):
        parted = dataset
    else:
        train = 1 - config.val - config.test
        shares = {"train": train, "test": config.test, "val": config.val}
        parted = assign_splits(dataset, shares, config.seed)
    named = (
        replace(r, file_name=f"{safe_component(r.split)}/{r.file_name}") for r in parted.records
    )
    return replace(parted, records=tuple(named))


def _written(
    dataset: Dataset, done: Iterator[Converted | DataError], faults: Faults, losses: Losses,
    report: FidelityReport, folder: Path, config: ConvertConfig,
) -> Dataset:  # fmt: skip
    """Write the COCO files as images come back; returns the images that were without fault."""
    writers: dict[str, CocoWriter] = {}
    fold_of = _fold_of(dataset, config)
    kept: list[ImageRecord] = []
    with ExitStack() as stack:
        for record, found in zip(dataset.records, done, strict=True):
            if isinstance(found, DataError):
                faults.add(found)
                continue
            for name in _coco_files(record, fold_of, config):
                if name not in writers:
                    path = folder / "annotations" / f"{name}.json"
                    writers[name] = stack.enter_context(coco_writer(path, dataset.categories))
                writers[name].add_image(found.image)
                writers[name].add_rows(found.rows)
            losses.add(record, found)
            report.add(record, found.kept)
            kept.append(record)
    return Dataset(dataset.categories, tuple(kept))


def _coco_files(
    record: ImageRecord, fold_of: Mapping[str, int], config: ConvertConfig
) -> Iterator[str]:
    yield "instances"
    yield safe_component(f"instances_{record.split}")
    if record.split != "test":
        for fold in range(config.folds):
            split = "val" if fold_of[record.group] == fold else "train"
            yield f"instances_fold{fold}_{split}"


def _fold_of(dataset: Dataset, config: ConvertConfig) -> Mapping[str, int]:
    """Cross-validation over all images but test's: the fold of each group."""
    pool = [record for record in dataset.records if record.split != "test"]
    return folds(pool, config.folds, config.seed) if config.folds else {}


def _write_lists(folder: Path, dataset: Dataset, config: ConvertConfig) -> None:
    """Write what names the images of each split and fold: data.yaml, split.json, lists."""
    splits = splits_of(dataset.records)
    for root in (folder, folder / "segment"):
        write_data_yaml(root / "data.yaml", dataset.categories, splits)
    write_split(folder / "split.json", dataset)
    fold_of = _fold_of(dataset, config)
    held = {"test": splits["test"]} if "test" in splits else {}
    for fold in range(config.folds):
        listings = {}
        for split in ("train", "val"):
            chosen = [
                record
                for record in dataset.records
                if record.split != "test" and (fold_of[record.group] == fold) == (split == "val")
            ]
            listings[split] = f"fold{fold}_{split}.txt"
            lines = "".join(f"./images/{record.file_name}\n" for record in chosen)
            write_text(folder / listings[split], lines)
        write_data_yaml(folder / f"data_fold{fold}.yaml", dataset.categories, held | listings)
