"""The images of a review that a person has finished, with their objects: what can be learned from.

An object that was accepted or corrected teaches only on an image that is reviewed as a whole:
elsewhere a defect may lack its mask, and would be learned as good surface.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.review.reviewed import REVIEWED, read_reviewed
from pipeline.review.store import ReviewStore
from pipeline.types import Dataset, Detections


@dataclass(frozen=True)
class FinishedImages:
    """dataset: the images and their objects, all with masks. boxes_alone: finished images that are
    left out, because an object has no mask. sha256: of all that the images say."""

    dataset: Dataset
    boxes_alone: int
    sha256: str

    @property
    def masks(self) -> int:
        """How many objects there are."""
        return sum(map(len, self.dataset.objects.values()))


def finished_images(store: ReviewStore, images: Path) -> FinishedImages:
    """The finished images of a session. images: their folder. Raises DataError for a damaged
    session."""
    reviewed = read_reviewed(store, images)
    boxes = "SELECT DISTINCT image FROM objects WHERE json_extract(value, '$.counts') IS NULL AND "
    states = "json_extract(value, '$.state') != 'rejected'"
    alone = {int(str(image)) for (image,) in store.rows(f"{boxes}value IS NOT NULL AND {states}")}
    records, objects, left_out = [], {}, 0
    for record in reviewed.dataset.records:
        own = reviewed.dataset.on(record)
        if record.id not in reviewed.finished or not _is_judged(own):
            continue
        if record.id in alone:
            left_out += 1
            continue
        records.append(record)
        if len(own):
            objects[record.id] = Detections(own.boxes, own.labels, masks=own.masks)
    dataset = Dataset(store.categories, tuple(records), objects)
    return FinishedImages(dataset, left_out, _sha256(dataset))


def _is_judged(objects: Detections) -> bool:
    return not len(objects) or bool(objects.attributes[REVIEWED].all())


def _sha256(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for record in dataset.records:
        own = dataset.on(record)
        names = [dataset.categories[label] for label in own.labels]
        masks = [mask["counts"].decode("ascii") for mask in own.masks or ()]
        digest.update(json.dumps([record.file_name, names, masks]).encode())
    return digest.hexdigest()
