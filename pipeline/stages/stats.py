"""`pipeline stats`: what a set holds, printed and drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.mvtec import read_defect_mask, read_mvtec
from pipeline.geometry import masks as mask_geometry
from pipeline.io.run_record import RunRecord
from pipeline.runtime.progress import track
from pipeline.synthesis.product import MVTEC_ZIPPER
from pipeline.types import GOOD, Dataset, Detections
from pipeline.visualization.plots import bars, size_scatter

_ZIPPER = {"images": 391, "train": 240, "test": 151, "size": "1024x1024"}


def stats(
    source: Path,
    output: Path | None = None,
    keep_going: bool = False,
    mask_threshold: int = 0,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Counts, sizes and areas of an MVTec product folder or a COCO file.

    Mask values above `mask_threshold` are defect. allow_outside: as in `read_mvtec`.

    With `output`, pictures are drawn there. The original zipper of MVTec AD is held against its
    published table. Raises DataError for what cannot be read.
    """
    faults = Faults(keep_going)
    if source.suffix.lower() == ".json":
        dataset = read_coco(source)
    else:
        dataset = _with_instances(
            read_mvtec([source], faults, allow_outside=allow_outside), faults, mask_threshold
        )
    summary = _summary(dataset) | {"faults": [str(error) for error in faults.found]}
    if source.name == "zipper":
        summary["published_table"] = _against_published(summary)
    if output:
        record = RunRecord("stats", {"mask_threshold": mask_threshold}, [source])
        with record.whole_folder(output) as folder:
            _draw(folder, dataset, summary)
            summary["pictures"] = str(output)
            record.write(folder, summary)
    return summary


def _with_instances(dataset: Dataset, faults: Faults, threshold: int) -> Dataset:
    records, objects = [], {}
    for record in track(dataset.records, "read masks"):
        try:
            mask = read_defect_mask(record, threshold)
        except DataError as error:
            faults.add(error)
            continue
        records.append(record)
        if mask is not None:
            label = dataset.categories.index(record.defect)
            objects[record.id] = Detections.from_masks(mask_geometry.instances(mask)[0], label)
    return Dataset(dataset.categories, tuple(records), objects)


def _summary(dataset: Dataset) -> dict[str, Any]:
    images = Counter(_kind(dataset, record.id, record.defect) for record in dataset.records)
    areas = _areas(dataset)
    counts = [images[name] for name in dataset.categories if images[name]]
    return {
        "images": len(dataset.records),
        "splits": dict(sorted(Counter(r.source_split or r.split for r in dataset.records).items())),
        "good_images": images[GOOD],
        "sizes": dict(sorted(Counter(f"{r.width}x{r.height}" for r in dataset.records).items())),
        "categories": {
            name: {
                "images": images[name],
                "instances": len(areas[name]),
                "area_px": _spread(areas[name]),
            }
            for name in dataset.categories
        },
        "instances": sum(map(len, areas.values())),
        "long_tail_ratio": round(max(counts) / min(counts), 2) if counts else None,
    }


def _kind(dataset: Dataset, image_id: int, defect: str) -> str:
    """A COCO file of another tool does not say what an image is: its first object tells."""
    if defect != GOOD:
        return defect
    objects = dataset.objects.get(image_id)
    return dataset.categories[int(objects.labels[0])] if objects and len(objects) else GOOD


def _areas(dataset: Dataset) -> dict[str, list[float]]:
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


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, middle, high = np.percentile(values, [0, 50, 100])
    return {"min": float(low), "median": float(middle), "max": float(high)}


def _against_published(summary: Mapping[str, Any]) -> str:
    """Bergmann et al. 2019, table 1, and the counts of the archive."""
    found = {name: row["images"] for name, row in summary["categories"].items()}
    faults = [
        f"{name}: {found.get(name, 0)} images, published {count}"
        for name, count in MVTEC_ZIPPER.items()
        if found.get(name, 0) != count
    ]
    facts = {
        "images": summary["images"],
        "train": summary["splits"].get("train", 0),
        "test": summary["splits"].get("test", 0),
        "size": ", ".join(summary["sizes"]),
    }
    faults += [
        f"{key}: {facts[key]}, published {_ZIPPER[key]}"
        for key in facts
        if facts[key] != _ZIPPER[key]
    ]
    return "agrees" if not faults else "differs: " + "; ".join(faults)


def _draw(output: Path, dataset: Dataset, summary: Mapping[str, Any]) -> None:
    counts = {name: float(row["images"]) for name, row in summary["categories"].items()}
    bars(output / "images_per_category.png", "images per category", counts)
    sizes: dict[str, list[tuple[float, float]]] = {}
    for record in dataset.records:
        objects = dataset.on(record)
        for label, box in zip(objects.labels, objects.boxes, strict=True):
            width, height = (box[2] - box[0]) / record.width, (box[3] - box[1]) / record.height
            sizes.setdefault(dataset.categories[int(label)], []).append((width, height))
    points = {name: np.array(rows, dtype=np.float64) for name, rows in sorted(sizes.items())}
    size_scatter(output / "instance_sizes.png", points)
