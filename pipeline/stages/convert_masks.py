"""`pipeline convert-masks`: ground-truth masks to COCO, YOLO and PNG, with a report of all losses.

Several processes convert one image each. They return text and figures, which are written at once,
so memory does not grow with the pixels of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config.schema import ConvertConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.coco import image_text, parse_row_texts
from pipeline.formats.coco_rows import row_texts
from pipeline.formats.coco_stream import CocoWriter, coco_writer
from pipeline.formats.converted_set import coco_file_stems, fold_of_group, write_lists
from pipeline.formats.datasets import read_datasets
from pipeline.formats.mvtec import group_by, read_defect_values
from pipeline.formats.png_masks import read_png_mask, write_png_mask
from pipeline.formats.yolo import write_yolo_image
from pipeline.formats.yolo_labels import parse_labels
from pipeline.geometry.masks import encode_patches, to_patch
from pipeline.geometry.patches import Patch, has_grey_values, split_instances
from pipeline.io.names import safe_component
from pipeline.io.run_record import RunRecord
from pipeline.metrics.fidelity import Comparison, compare
from pipeline.metrics.fidelity_totals import FormatFidelity
from pipeline.reports.fidelity import FidelityReport, fidelity_report
from pipeline.results import StageResult
from pipeline.runners import Runner, map_items
from pipeline.runtime.progress import track
from pipeline.splits import assign_splits, read_split
from pipeline.types import GOOD, Dataset, Detections, ImageRecord

_DEFAULT = ConvertConfig()


@dataclass(frozen=True, kw_only=True)
class SplitCounts:
    """images: of a split, `good` of them without defect. instances: objects on them."""

    images: int = 0
    good: int = 0
    instances: int = 0


@dataclass(frozen=True, kw_only=True)
class ConvertMasksResult(StageResult):
    """output: the folder that was written; annotations/README.md describes its files.

    specks_dropped: components under `config.min_area`. pixels_in_masks, pixels_in_coco: defect
    pixels before the conversion, and in the COCO file. masks_with_grey_values: masks with soft or
    resampled edges. defect_images_without_instance: images in a defect folder whose mask is empty.
    splits: counts by split. fidelity: by format. instances_below_min_iou: instances with an IoU
    under `config.min_iou` in any format. faults: a line for each image that was skipped.
    """

    output: Path
    images: int
    instances: int
    specks_dropped: int
    pixels_in_masks: int
    pixels_in_coco: int
    masks_with_grey_values: int
    defect_images_without_instance: tuple[str, ...]
    splits: Mapping[str, SplitCounts]
    categories: tuple[str, ...]
    fidelity: Mapping[str, FormatFidelity]
    instances_below_min_iou: int
    faults: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 when an instance has an IoU under `config.min_iou`."""
        return 1 if self.instances_below_min_iou else 0


@dataclass(frozen=True)
class Plan:
    """What all images of a conversion share."""

    folder: Path
    categories: tuple[str, ...]
    config: ConvertConfig


@dataclass(frozen=True)
class Converted:
    """One converted image: its entry and annotations as JSON texts, the comparison of each format,
    and the losses; see `ConvertMasksResult`."""

    image: str
    rows: Sequence[str]
    comparisons: Mapping[str, Comparison]
    specks: int = 0
    pixels: int = 0
    pixels_in_coco: int = 0
    grey: bool = False


@dataclass
class Counts:
    """The counts of a conversion, added up image by image; see `ConvertMasksResult`."""

    images: int = 0
    instances: int = 0
    specks_dropped: int = 0
    pixels_in_masks: int = 0
    pixels_in_coco: int = 0
    masks_with_grey_values: int = 0
    defect_images_without_instance: tuple[str, ...] = ()
    splits: dict[str, SplitCounts] = field(default_factory=dict)

    def add(self, record: ImageRecord, converted: Converted) -> None:
        """Count one image."""
        before = self.splits.get(record.split, SplitCounts())
        self.splits[record.split] = SplitCounts(
            images=before.images + 1,
            good=before.good + (record.defect == GOOD),
            instances=before.instances + len(converted.rows),
        )
        self.images += 1
        self.instances += len(converted.rows)
        self.specks_dropped += converted.specks
        self.pixels_in_masks += converted.pixels
        self.pixels_in_coco += converted.pixels_in_coco
        self.masks_with_grey_values += converted.grey
        if record.mask_path is not None and not converted.rows:
            self.defect_images_without_instance += (str(record.path),)


def convert_masks(
    products: Sequence[Path],
    output: Path,
    config: ConvertConfig = _DEFAULT,
    *,
    images: Path | None = None,
    keep_going: bool = False,
    runner: Runner = "local",
    workers: int = 0,
    allow_outside: bool = False,
) -> ConvertMasksResult:
    """Convert MVTec products, or COCO files with masks; see annotations/README.md for the files.

    products: product folders, COCO files, or folders that convert-masks wrote. Where all images
    have a split, or lie in a folder of its name, they keep it; else they are split again. images:
    the folder of the images of COCO files; without it, `images` beside a file or its folder.
    keep_going: skip faulty images. runner: where the work is done. workers: processes; 0 is one for
    each core. allow_outside: images may be outside the folder of images and outside the products,
    or lead out of them by a link. Raises DataError for a faulty image or file, ConfigError for
    settings that do not fit the data.
    """
    reads = [*products, images, config.split_file]
    record = RunRecord("convert-masks", config.model_dump(mode="json"), reads)
    faults = Faults(keep_going)
    dataset = read_datasets(products, faults, images, allow_outside)
    if config.group_by:
        dataset = group_by(dataset, config.group_by)
    dataset = _with_splits(dataset, config)
    dataset.refuse_equal_stems()
    with record.whole_folder(output) as folder:
        work = partial(convert_image, plan=Plan(folder, dataset.categories, config))
        counts = Counts()
        items = [(record, dataset.objects.get(record.id)) for record in dataset.records]
        with (
            fidelity_report(folder) as report,
            closing(map_items(work, items, runner, workers)) as done,
        ):
            converted = _write_coco(dataset, track(done, "convert", len(dataset.records)), faults,
                                 counts, report, folder, config)  # fmt: skip
        write_lists(folder, converted, config.folds, config.seed)
        result = ConvertMasksResult(
            output=output,
            **vars(counts),
            categories=dataset.categories,
            fidelity=report.finish(folder),
            instances_below_min_iou=report.below(config.min_iou) if config.min_iou else 0,
            faults=tuple(map(str, faults.found)),
        )
        record.write(folder, result.to_json())
    return result


def convert_image(item: tuple[ImageRecord, Detections | None], plan: Plan) -> Converted | DataError:
    """Convert one image: write its YOLO labels and its PNG mask, read every format back, and
    compare it with the pixels of the source.

    item: the image, and its objects; None for objects that are read from the mask file. A fault of
    the mask file is returned. A fault in writing, such as a full disk, is raised.
    """
    record, objects = item
    if objects is not None:
        return _converted(record, objects, [to_patch(rle) for rle in objects.masks or ()], plan)
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
        grey=has_grey_values(values, patches),
    )


def _converted(
    record: ImageRecord, objects: Detections, patches: Sequence[Patch], plan: Plan
) -> Converted:
    loss = plan.config.polygon_loss if plan.config.polygons else None
    rows = row_texts(record, objects, loss)
    comparisons = _write(record, patches, objects, plan, rows)
    return Converted(
        image=image_text(record),
        rows=rows,
        comparisons=comparisons,
        pixels=sum(patch.area for patch in patches),
        pixels_in_coco=sum(row.area_read for row in comparisons["coco"].rows) if comparisons else 0,
    )


def _write(
    record: ImageRecord, patches: Sequence[Patch], objects: Detections, plan: Plan,
    rows: Sequence[str],
) -> dict[str, Comparison]:  # fmt: skip
    """Write the files of one image; returns the comparison of each format after reading it back."""
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
    return {name: compare(objects, back, *size, patches) for name, back in read.items()}


def _with_splits(dataset: Dataset, config: ConvertConfig) -> Dataset:
    if config.split_file:
        split = read_split(config.split_file, dataset)
    elif all(record.split for record in dataset.records):
        split = dataset
    else:
        train = 1 - config.val - config.test
        shares = {"train": train, "test": config.test, "val": config.val}
        split = assign_splits(dataset, shares, config.seed)
    named = (
        replace(r, file_name=f"{safe_component(r.split)}/{r.file_name}") for r in split.records
    )
    return replace(split, records=tuple(named))


def _write_coco(
    dataset: Dataset, done: Iterator[Converted | DataError], faults: Faults, counts: Counts,
    report: FidelityReport, folder: Path, config: ConvertConfig,
) -> Dataset:  # fmt: skip
    """Write the COCO files while images are converted; returns the images without fault."""
    writers: dict[str, CocoWriter] = {}
    fold_of = fold_of_group(dataset, config.folds, config.seed)
    records: list[ImageRecord] = []
    with ExitStack() as stack:
        for record, converted in zip(dataset.records, done, strict=True):
            if isinstance(converted, DataError):
                faults.add(converted)
                continue
            for name in coco_file_stems(record, config.folds, fold_of):
                if name not in writers:
                    path = folder / "annotations" / f"{name}.json"
                    writers[name] = stack.enter_context(coco_writer(path, dataset.categories))
                writers[name].add_image(converted.image)
                writers[name].add_rows(converted.rows)
            counts.add(record, converted)
            report.add(record, converted.comparisons)
            records.append(record)
    return Dataset(dataset.categories, tuple(records))
