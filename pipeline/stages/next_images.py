"""`pipeline next`: which images to label next, by what they would teach the models of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import NextConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.coco import read_coco
from pipeline.formats.converted_set import read_objects
from pipeline.formats.image_files import list_images_below
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import read_image
from pipeline.io.write import write_text
from pipeline.results import StageResult
from pipeline.review.finished import finished_images
from pipeline.review.generations import finished_generations, last_models
from pipeline.review.reviewed import image_records
from pipeline.review.source import find_source, image_root
from pipeline.review.store import ReviewStore
from pipeline.runtime.progress import track
from pipeline.types import Dataset, ImageRecord

if TYPE_CHECKING:
    from pipeline.models.segmentation.model import DefectSegmenter
    from pipeline.proposals.labeller import Labeller
    from pipeline.proposals.teaching import Choice, Doubt

_DEFAULT = NextConfig()
_LIST = "next.txt"  # in the folder of the run
_MISSED, _POOR, _UNLIKE = 0.3, 0.7, 1.25  # from where a figure is a reason


@dataclass(frozen=True)
class NextImage:
    """name: below the folder of the images. doubt: of its labels, in [0, 1]. labels: how many.
    unlike: distance to the nearest known or chosen image; 1 is usual. missed, worst: see
    `Doubt`."""

    name: str
    doubt: float
    unlike: float
    missed: float
    worst: float | None
    labels: int


@dataclass(frozen=True, kw_only=True)
class NextImagesResult(StageResult):
    """candidates, known: images that were compared. reasons: by the image's name, the first to
    label first. images: their figures. listed: a file of the names, one a line."""

    candidates: int
    known: int
    reasons: dict[str, str]
    images: tuple[NextImage, ...]
    listed: Path
    faults: tuple[str, ...] = ()


def next_images(
    run: Path,
    config: NextConfig = _DEFAULT,
    *,
    images: Path | None = None,
    output: Path | None = None,
    device: str = "auto",
    keep_going: bool = False,
) -> NextImagesResult:
    """Choose the images that would teach most: doubtful labels, and unlike what is known.

    run: folder of `pipeline run`; its last models are used. images: a folder to choose from;
    without it, the labelled images of the run whose review is not finished. output: the file of
    names. Raises DataError for a run without a labeller, and for nothing to choose from.
    """
    from pipeline.models.devices import torch_device
    from pipeline.proposals.labeller import load_labeller
    from pipeline.proposals.teaching import choose

    models = last_models(run)
    if "labeller" not in models:
        raise DataError(run, "holds no labeller", "give the folder that `pipeline run` wrote")
    faults = Faults(keep_going)
    records = _candidates(run, images, faults)
    labeller = load_labeller(models["labeller"], torch_device(device))
    known = _known(run, labeller.finders.segmenter, faults)
    rows, doubts, vectors = _compared(labeller, records, faults)
    worths = np.array([doubt.worth for doubt in doubts])
    choice = choose(worths, vectors, known, config.count)
    chosen = tuple(_image(rows[row], doubts[row], choice, row) for row in choice.rows)
    listed = output or run / _LIST
    write_text(listed, "".join(f"{image.name}\n" for image in chosen))
    return NextImagesResult(
        candidates=len(rows),
        known=len(known),
        reasons={image.name: _reason(image) for image in chosen},
        images=chosen,
        listed=listed,
        faults=faults.lines,
    )


def _candidates(run: Path, images: Path | None, faults: Faults) -> Sequence[ImageRecord]:
    """The images to choose from. Raises DataError for none."""
    if images is not None:
        return list_images_below(images, faults).records
    source = find_source(run)
    if source.session.is_file():
        with ReviewStore(source.session) as store:
            root = image_root(source, store.root)
            done = {record.id for record in finished_images(store, root).dataset.records}
            left = [record for record in image_records(store, root) if record.id not in done]
    else:
        left = list(read_coco(source.labels, source.images).records)
    if not left:
        raise DataError(source.session, "has no image left to review", "give others with --images")
    return left


def _known(run: Path, segmenter: DefectSegmenter, faults: Faults) -> NDArray[np.float32]:
    """(M, D) the embeddings of what the last generation learned from, where the defects are."""
    from pipeline.models.segmentation.embedding import embed

    data = finished_generations(run)[-1].folder / "data"
    found: list[NDArray[np.float32]] = []
    datasets = read_objects(data, ("train", "val"), faults, good=True)
    pairs = [(record, each) for each in datasets for record in each.records]
    for record, dataset in track(pairs, "known images"):
        try:
            image = read_image(record.path)
        except DataError as error:
            faults.add(error)
            continue
        found.append(embed(segmenter, image, _covered(dataset, record)))
    return np.array(found, np.float32)


def _covered(dataset: Dataset, record: ImageRecord) -> NDArray[np.float32]:
    """(H, W) 1 on the defects of an image."""
    masks = dataset.on(record).masks or ()
    return mask_geometry.union(masks, *record.size).astype(np.float32)


def _compared(
    labeller: Labeller, records: Sequence[ImageRecord], faults: Faults
) -> tuple[list[ImageRecord], list[Doubt], NDArray[np.float32]]:
    """The images that could be read, the doubt of the labels of each, and its embedding."""
    from pipeline.models.segmentation.embedding import embed
    from pipeline.proposals.teaching import doubt_of

    rows, doubts, vectors = [], [], []
    segmenter = labeller.finders.segmenter
    for record in track(records, "compare images"):
        try:
            image = read_image(record.path)
        except DataError as error:
            faults.add(error)
            continue
        labels, missed = labeller.label(image)
        found = segmenter.defect_map(image)
        rows.append(record)
        doubts.append(doubt_of(labels, missed, found))
        vectors.append(embed(segmenter, image, found.heatmap()))
    return rows, doubts, np.array(vectors, np.float32)


def _image(record: ImageRecord, doubt: Doubt, choice: Choice, row: int) -> NextImage:
    return NextImage(
        name=record.file_name,
        doubt=round(doubt.share, 4),
        unlike=round(float(choice.unlike[row]), 4),
        missed=round(doubt.missed, 4),
        worst=None if doubt.worst is None else round(doubt.worst, 4),
        labels=doubt.labels,
    )


def _reason(image: NextImage) -> str:
    """What speaks for an image, in words."""
    parts = []
    if image.missed >= _MISSED:
        parts.append(f"a defect may be missed ({image.missed:.2f})")
    if image.worst is not None and image.worst <= _POOR:
        parts.append(f"a doubtful label (expected IoU {image.worst:.2f})")
    if image.unlike >= _UNLIKE:
        parts.append(f"unlike the known images ({image.unlike:.1f} times the usual)")
    return ", ".join(parts) or f"the most doubtful of those left (doubt {image.doubt:.2f})"
