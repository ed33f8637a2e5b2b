"""A label format of your own, read and written like the others.

A format is a writer, a reader and a line about it. Once it is registered, `export_labels` and
`import_labels` know it, and count what it loses.

    python examples/add_a_format.py labels/annotations/instances.json labels_csv
"""

import csv
import sys
from pathlib import Path

import numpy as np

import pipeline
from pipeline import Dataset, Detections, ImageRecord
from pipeline.formats.registry import Format, place_images, register, without_image_check

HEADER = ("image", "height", "width", "category", "x0", "y0", "x1", "y1")


def write_csv(root: Path, dataset: Dataset, copy_images: bool, polygon_loss: float) -> None:
    """One row for each box, and one without a category for an image without objects."""
    del polygon_loss
    place_images(root, dataset, copy_images)
    with (root / "boxes.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(HEADER)
        for record in dataset.records:
            objects = dataset.on(record)
            image = (record.file_name, record.height, record.width)
            for box, label in zip(objects.boxes, objects.labels, strict=True):
                rows.writerow((*image, dataset.categories[label], *box))
            if not len(objects):
                rows.writerow((*image, "", "", "", "", ""))


def read_csv(source: Path, images: Path | None) -> Dataset:
    """The boxes of a folder that `write_csv` wrote."""
    with (source / "boxes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    categories = tuple(sorted({row["category"] for row in rows} - {""}))
    records, objects = [], {}
    for number, name in enumerate(dict.fromkeys(row["image"] for row in rows), start=1):
        own = [row for row in rows if row["image"] == name]
        size = int(own[0]["height"]), int(own[0]["width"])
        records.append(ImageRecord(number, (images or source / "images") / name, name, *size))
        boxed = [row for row in own if row["category"]]
        boxes = np.array([[row[k] for k in HEADER[4:]] for row in boxed], np.float32)
        labels = np.array([categories.index(row["category"]) for row in boxed], np.int64)
        objects[number] = Detections(boxes.reshape(-1, 4), labels)
    return Dataset(categories, tuple(records), objects)


def main(labels: Path, output: Path) -> None:
    """Export COCO labels as CSV, and print what the format loses."""
    register("csv", Format("boxes in a CSV file", write_csv, without_image_check(read_csv)))
    exported = pipeline.export_labels(labels, "csv", output)
    print(exported.to_json())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
