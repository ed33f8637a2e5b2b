"""The images that a command labels: a folder's, or those that a COCO file lists."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.image_files import NamedFolders, leave_out_outside, list_images_below
from pipeline.formats.source import SourceLog
from pipeline.types import Dataset


def listed_images(
    images: Path, listed: Path | None, split: str | None, allow_outside: bool, faults: Faults
) -> Dataset:
    """The images of a folder, or with `listed` those of a COCO file and its boxes.

    split: only the images of this one. allow_outside: also those that lie outside `images`. Raises
    DataError for missing images and for names that differ in the suffix alone.
    """
    if listed:
        dataset = read_coco(listed, images, SourceLog(faults), exact=True)
    else:
        dataset = list_images_below(images, faults)
    if split:
        dataset = dataset.subset([r for r in dataset.records if r.split == split])
    dataset = leave_out_outside(dataset, NamedFolders([images], allow_outside), faults)
    dataset.refuse_equal_stems()
    return dataset
