"""`pipeline convert-masks`: ground-truth masks to COCO, YOLO and PNG, with a report of all losses.

Several processes convert one image each. They return text and figures, which are written at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.config.labels import ConvertConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco_stream import CocoWriter, coco_writer
from pipeline.formats.converted_set import coco_file_stems, fold_of_group, write_lists
from pipeline.formats.datasets import read_datasets
from pipeline.formats.groups import group_file
from pipeline.formats.layouts.jpeg_masks import threshold_notes
from pipeline.formats.layouts.mask_folders import FolderListing, MaskFolders, read_mask_folders
from pipeline.io.image_copies import portable_name
from pipeline.io.names import safe_component
from pipeline.io.run_record import RunRecord
from pipeline.metrics.fidelity_totals import FormatFidelity
from pipeline.reports.conversion import Converted, ConvertedCounts, SplitCounts
from pipeline.reports.fidelity import FidelityReport, fidelity_report
from pipeline.reports.grouping import (
    GroupCounts,
    Grouping,
    LeakCounts,
    grouped,
    lacking_splits,
    leak_note,
    report_leaks,
)
from pipeline.results import StageResult
from pipeline.runners import Runner, check_runner, map_items
from pipeline.runtime.progress import track
from pipeline.splits import assign_splits, read_split
from pipeline.stages.convert_image import Plan, convert_image
from pipeline.types import Dataset, ImageRecord

_DEFAULT = ConvertConfig()


@dataclass(frozen=True, kw_only=True)
class ConvertMasksResult(StageResult):
    """output: the folder that was written; annotations/README.md describes its files.

    specks_dropped: components under `config.min_area`. pixels_in_masks, pixels_in_coco: defect
    pixels before and after. masks_with_grey_values: those with soft edges. kept_whole: instances
    that the threshold would tear apart, and were cut lower; torn_pieces: the pieces that it would
    make of them. tiny_instances: those of one or two pixels; tiny_examples: the first three.
    mostly_defect: images of which over half is defect.
    images_without_mask: of a folder of images, which are good. notes: what was found out about
    masks and groups. groups: images of one object. leaks: held-out images whose object is in
    training too. defect_images_without_instance: images in a defect folder whose mask is empty.
    instances_below_min_iou: by `config.min_iou`, in any format. faults: one line an image.
    """

    output: Path
    images: int
    instances: int
    specks_dropped: int
    pixels_in_masks: int
    pixels_in_coco: int
    masks_with_grey_values: int
    kept_whole: int = 0
    torn_pieces: int = 0
    tiny_instances: int = 0
    tiny_examples: tuple[str, ...] = ()
    mostly_defect: int = 0
    images_without_mask: int | None = None
    notes: tuple[str, ...] = ()
    defect_images_without_instance: tuple[str, ...]
    splits: Mapping[str, SplitCounts]
    groups: GroupCounts
    leaks: LeakCounts
    categories: tuple[str, ...]
    fidelity: Mapping[str, FormatFidelity]
    instances_below_min_iou: int
    faults: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 when an instance has an IoU under `config.min_iou`."""
        return 1 if self.instances_below_min_iou else 0


def convert_masks(
    products: Sequence[Path],
    output: Path,
    config: ConvertConfig = _DEFAULT,
    *,
    images: Path | None = None,
    masks: Path | None = None,
    keep_going: bool = False,
    runner: Runner = "local",
    workers: int = 0,
    allow_outside: bool = False,
) -> ConvertMasksResult:
    """Convert products, or COCO files with masks; see annotations/README.md for the files.

    products: product folders in a known layout, COCO files, or folders that convert-masks wrote;
    none where `images` and `masks` are a folder of images and one of their masks. Where all images
    have a split, or lie in a folder of its name, they keep it; else they are split again. images:
    the folder of the images of COCO files; else `images` beside a file or its folder. keep_going:
    skip faulty images. runner: where the work is done. workers: processes; 0 is one for each core.
    allow_outside: images may be outside these folders, or lead out of them by a link. Raises
    DataError for a faulty image or file, ConfigError for settings that do not fit the data.
    """
    check_runner(runner, workers)
    reads = [*products, images, masks, config.split_file, group_file(config.group_by)]
    record = RunRecord("convert-masks", config.model_dump(mode="json"), reads)
    faults = Faults(keep_going)
    listing = _listing(products, images, masks, config, faults, allow_outside)
    roots = [*products, images] if images else products
    grouping = grouped(listing.dataset, config.group_by, roots, runner, workers)
    dataset, wanted = _with_splits(grouping.dataset, config)
    source = replace(listing, dataset=dataset)
    return write_converted(
        record, output, source, grouping, config, faults, wanted, runner, workers
    )


def write_converted(
    record: RunRecord, output: Path, listing: FolderListing, grouping: Grouping,
    config: ConvertConfig, faults: Faults, wanted: Sequence[str] = (), runner: Runner = "local",
    workers: int = 0,
) -> ConvertMasksResult:  # fmt: skip
    """Write a converted folder. listing: its images have splits, and names in the folder. grouping:
    of the same images in the same order. wanted: splits that the settings name. Raises DataError as
    `convert_masks`."""
    dataset = listing.dataset
    with record.whole_folder(output) as folder:
        with fidelity_report(folder) as report:
            plan = Plan(folder, dataset.categories, config)
            converted, counts = _convert(dataset, plan, faults, report, runner, workers)
        write_lists(folder, converted, config.folds, config.seed)
        leaking = report_leaks(folder, grouping, dataset.records)
        notes = (*listing.notes, *grouping.notes, *lacking_splits(dataset.records, wanted))
        result = ConvertMasksResult(
            output=output,
            **vars(counts),
            images_without_mask=listing.without_mask,
            notes=(*notes, *counts.inverted_note(), *leak_note(leaking)),
            groups=grouping.counts,
            leaks=leaking,
            categories=dataset.categories,
            fidelity=report.finish(folder),
            instances_below_min_iou=report.below(config.min_iou) if config.min_iou else 0,
            faults=tuple(map(str, faults.errors)),
        )
        record.write(folder, result.to_json())
    return result


def _convert(
    dataset: Dataset, plan: Plan, faults: Faults, report: FidelityReport, runner: Runner,
    workers: int,
) -> tuple[Dataset, ConvertedCounts]:  # fmt: skip
    """Convert all images; returns those without fault, and the counts of the result."""
    items = [(record, dataset.objects.get(record.id)) for record in dataset.records]
    with closing(map_items(partial(convert_image, plan=plan), items, runner, workers)) as done:
        return _write_coco(dataset, track(done, "convert", len(items)), faults, report, plan)


def _listing(
    products: Sequence[Path], images: Path | None, masks: Path | None, config: ConvertConfig,
    faults: Faults, allow_outside: bool,
) -> FolderListing:  # fmt: skip
    if masks is None:
        dataset = read_datasets(products, faults, images, allow_outside)
        return FolderListing(dataset, notes=threshold_notes(dataset.records, config.mask_threshold))
    if products or images is None:
        raise ConfigError("--masks goes with --images, and with no product")
    folders = MaskFolders(
        images, masks, config.mask_suffix, config.categories, config.mask_values,
        config.mask_threshold,
    )  # fmt: skip
    return read_mask_folders(folders, faults, allow_outside)


def _with_splits(dataset: Dataset, config: ConvertConfig) -> tuple[Dataset, list[str]]:
    """The dataset with a split for each image, and the splits that the settings ask for; none
    where the source gives them. Raises DataError for two images of one stem in a split."""
    wanted: list[str] = []
    if config.split_file:
        split = read_split(config.split_file, dataset)
    elif all(record.split for record in dataset.records):
        split = dataset
    else:
        train = 1 - config.val - config.test
        shares = {"train": train, "test": config.test, "val": config.val}
        wanted = [name for name, share in shares.items() if share > 0]
        split = assign_splits(dataset, shares, config.seed)
    records = (
        replace(r, file_name=f"{safe_component(r.split)}/{portable_name(r.file_name)}")
        for r in split.records
    )
    named = replace(split, records=tuple(records))
    named.refuse_equal_stems()
    return named, wanted


def _write_coco(
    dataset: Dataset, done: Iterator[Converted | DataError], faults: Faults,
    report: FidelityReport, plan: Plan,
) -> tuple[Dataset, ConvertedCounts]:  # fmt: skip
    """Write the COCO files while images are converted. See `_convert`."""
    counts, writers, config = ConvertedCounts(), dict[str, CocoWriter](), plan.config
    fold_of = fold_of_group(dataset, config.folds, config.seed)
    records: list[ImageRecord] = []
    with ExitStack() as stack:
        for record, converted in zip(dataset.records, done, strict=True):
            if isinstance(converted, DataError):
                faults.add(converted)
                continue
            for name in coco_file_stems(record, config.folds, fold_of):
                if name not in writers:
                    path = plan.folder / "annotations" / f"{name}.json"
                    writers[name] = stack.enter_context(coco_writer(path, dataset.categories))
                writers[name].add_image(converted.image)
                writers[name].add_rows(converted.rows)
            counts.add(record, converted)
            report.add(record, converted.comparisons)
            records.append(record)
    return Dataset(dataset.categories, tuple(records)), counts
