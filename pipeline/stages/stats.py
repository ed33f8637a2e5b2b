"""`pipeline stats`: counts and sizes of a dataset, printed and drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.coco_schema import PARQUET
from pipeline.formats.layouts import read_products, recognise
from pipeline.formats.layouts.jpeg_masks import threshold_notes
from pipeline.formats.mvtec import with_instances
from pipeline.geometry import masks as mask_geometry
from pipeline.io.run_record import RunRecord
from pipeline.results import StageResult
from pipeline.runtime.progress import say
from pipeline.synthesis.product import MVTEC_ZIPPER
from pipeline.types import GOOD, Dataset, ImageRecord
from pipeline.visualization.plots import bars, size_scatter

PublishedName = Literal["mvtec-zipper"]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Smallest, median and largest of several values."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, kw_only=True)
class CategoryStats:
    """images: images of this category or with one of its objects. instances: objects of this
    category on all images. area_px: their areas in pixels; None without objects."""

    images: int
    instances: int
    area_px: Spread | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A count of the dataset that differs from the published count."""

    name: str
    measured: str
    published: str


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A comparison with a published table: the counts that differ; none when the dataset agrees."""

    name: PublishedName
    agrees: bool
    differences: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class StatsResult(StageResult):
    """layout: of the folder, by its publisher's name. splits, sizes: number of images by split, and
    by size (`<width>x<height>` in pixels).
    long_tail_ratio: images of the largest category over images of the smallest; None without
    defects. faults: a line for each file that was skipped. pictures: their folder."""

    layout: str = ""
    images: int
    splits: Mapping[str, int]
    good_images: int
    sizes: Mapping[str, int]
    categories: Mapping[str, CategoryStats]
    instances: int
    long_tail_ratio: float | None = None
    faults: tuple[str, ...] = ()
    published_table: PublishedTable | None = None
    pictures: Path | None = None


def stats(
    source: Path,
    output: Path | None = None,
    *,
    mask_threshold: int | None = None,
    published: PublishedName | None = None,
    keep_going: bool = False,
    allow_outside: bool = False,
) -> StatsResult:
    """Counts, sizes and areas of a product folder in a known layout, or of a COCO file.

    output: the folder for pictures; without it, none are drawn. mask_threshold: mask values above
    it are defect; None for 0, and for JPEG masks what `layouts.jpeg_masks` finds. published:
    compare the counts with a published table. keep_going: skip faulty files. allow_outside: as in
    `read_products`. Raises DataError for a file that cannot be read.
    """
    faults = Faults(keep_going)
    if source.suffix.lower() in {".json", PARQUET}:
        dataset, name = read_coco(source), "COCO"
    else:
        layout = recognise(source)
        listed = read_products([source], faults, allow_outside, needs_masks=False, layout=layout)
        for note in threshold_notes(listed.records, mask_threshold):
            say(note)
        dataset, name = with_instances(listed, faults, mask_threshold), layout.name
    result = replace(_count(dataset), layout=name, faults=tuple(map(str, faults.errors)))
    if published:
        result = replace(result, published_table=_compare(result, published))
    if output:
        record = RunRecord("stats", {"mask_threshold": mask_threshold}, [source])
        result = replace(result, pictures=output)
        with record.whole_folder(output) as folder:
            _draw(folder, dataset, result)
            record.write(folder, result.to_json())
    return result


def _count(dataset: Dataset) -> StatsResult:
    images = Counter(name for record in dataset.records for name in _categories(dataset, record))
    areas = _areas(dataset)
    counts = [images[name] for name in dataset.categories if images[name]]
    return StatsResult(
        images=len(dataset.records),
        splits=dict(sorted(Counter(r.source_split or r.split for r in dataset.records).items())),
        good_images=images[GOOD],
        sizes=dict(sorted(Counter(f"{r.width}x{r.height}" for r in dataset.records).items())),
        categories={
            name: CategoryStats(
                images=images[name], instances=len(areas[name]), area_px=_spread(areas[name])
            )
            for name in dataset.categories
        },
        instances=sum(map(len, areas.values())),
        long_tail_ratio=round(max(counts) / min(counts), 2) if counts else None,
    )


def _categories(dataset: Dataset, record: ImageRecord) -> set[str]:
    """The categories of an image: its own and those of its objects; `good` without any."""
    own = {dataset.categories[label] for label in dataset.on(record).labels.tolist()}
    return own or {record.defect}


def _areas(dataset: Dataset) -> dict[str, list[float]]:
    """The areas of all objects in pixels, by category."""
    areas: dict[str, list[float]] = {name: [] for name in dataset.categories}
    for objects in dataset.objects.values():
        for row, label in enumerate(objects.labels):
            if objects.masks is not None:
                area = float(mask_geometry.area(objects.masks[row]))
            else:
                x0, y0, x1, y1 = objects.boxes[row]
                area = float((x1 - x0) * (y1 - y0))
            areas[dataset.categories[int(label)]].append(area)
    return areas


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    low, middle, high = np.percentile(values, [0, 50, 100])
    return Spread(min=float(low), median=float(middle), max=float(high))


def _compare(result: StatsResult, name: PublishedName) -> PublishedTable:
    """Compare with Bergmann et al. 2019, table 1, and with the counts of the archive."""
    measured = {category: str(row.images) for category, row in result.categories.items()}
    expected = {category: str(count) for category, count in MVTEC_ZIPPER.items()}
    measured |= {
        "images": str(result.images),
        "train": str(result.splits.get("train", 0)),
        "test": str(result.splits.get("test", 0)),
        "size": ", ".join(result.sizes),
    }
    expected |= {"images": "391", "train": "240", "test": "151", "size": "1024x1024"}
    differences = tuple(
        Difference(name=key, measured=measured.get(key, "0"), published=value)
        for key, value in expected.items()
        if measured.get(key, "0") != value
    )
    return PublishedTable(name=name, agrees=not differences, differences=differences)


def _draw(folder: Path, dataset: Dataset, result: StatsResult) -> None:
    counts = {name: float(row.images) for name, row in result.categories.items()}
    bars(folder / "images_per_category.png", "images per category", counts)
    sizes: dict[str, list[tuple[float, float]]] = {}
    for record in dataset.records:
        objects = dataset.on(record)
        for label, box in zip(objects.labels, objects.boxes, strict=True):
            width, height = (box[2] - box[0]) / record.width, (box[3] - box[1]) / record.height
            sizes.setdefault(dataset.categories[int(label)], []).append((width, height))
    points = {name: np.array(rows, dtype=np.float64) for name, rows in sorted(sizes.items())}
    size_scatter(folder / "instance_sizes.png", points)
