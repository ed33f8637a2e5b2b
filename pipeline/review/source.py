"""Which labels a review is of: a COCO file, or the folder of a command that wrote one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.coco import images_beside, read_coco
from pipeline.formats.coco_schema import PARQUET, open_coco
from pipeline.formats.source import SourceLog
from pipeline.io.read import RUN_FILE
from pipeline.io.run_record import read_run_file
from pipeline.review.schema import SUFFIX
from pipeline.types import Dataset

_IN_FOLDERS = (
    "instances.json", "annotations/instances.json", "labels/instances.json",
    "masks_from_detector/instances.json", "data/annotations/instances.json",
    "annotations/instances.index.json", "instances.index.json", "annotations.parquet",
)  # fmt: skip
_MISSED, _ANOMALY = "missed_probability", "anomaly_score"  # keys of an image


@dataclass(frozen=True)
class Source:
    """labels: the COCO file. images: the folder of its images; None where none was found. sam: the
    SAM of the run, by name or folder; "" where the run has none. session: the session file. run:
    the folder of the run whose labels they are; None for others."""

    labels: Path
    images: Path | None
    sam: str
    session: Path
    run: Path | None = None


@dataclass(frozen=True)
class StartingLabels:
    """The labels that a session begins with. missed: the probability that an image lacks a label,
    and anomaly: its anomaly score, by image id, where the file has them."""

    dataset: Dataset
    missed: dict[int, float]
    anomaly: dict[int, float]


def find_source(path: Path, images: Path | None = None, session: Path | None = None) -> Source:
    """The labels of a COCO file, of a session file, or of the folder of a command or a run.

    images: their folder; without it, the one beside the labels or of the run. session: where the
    review is kept; by default beside the labels. Raises DataError for a folder without labels.
    """
    labels = labels_of(path)
    folder = path if path.is_dir() else labels.parent
    places = (folder, labels.parent.parent)
    run = next((each for each in places if (each / "labeller" / "card.json").is_file()), None)
    return Source(
        labels, images or _images(run or folder, labels), _sam(run or folder, labels),
        session or session_of(labels), run,
    )  # fmt: skip


def image_root(source: Source, saved: Path, given: Path | None = None) -> Path:
    """The folder of the images of a review: the one that is given, or beside the labels, or the one
    that the review began with (`saved`), or that of the run."""
    if beside := given or images_beside(source.labels):
        return beside
    return saved if saved.is_dir() else source.images or source.labels.parent


def labels_of(path: Path) -> Path:
    """The COCO file of a path. Raises DataError."""
    if path.suffix == SUFFIX:
        listing, tables = path.with_suffix(".json"), path.with_suffix(PARQUET)
        return tables if tables.is_file() and not listing.is_file() else listing
    if not path.is_dir():
        if not path.exists():
            raise DataError(path, "no such file or folder", "give a COCO file, or a run's folder")
        return path
    there = [path / name for name in _IN_FOLDERS if (path / name).is_file()]
    begun = [labels for labels in there if session_of(labels).is_file()]
    found = next(iter([*begun, *there]), None)
    if found is None:
        remedy = "give a COCO file, or the folder of segment, label, convert-masks or run"
        raise DataError(path, "holds no instances.json", remedy)
    return found


def session_of(labels: Path) -> Path:
    """The session file beside labels."""
    return labels.with_suffix(SUFFIX)


def _images(folder: Path, labels: Path) -> Path | None:
    of_run = folder / "data" / "images"
    return images_beside(labels) or (of_run if of_run.is_dir() else None)


def _sam(folder: Path, labels: Path) -> str:
    """The SAM of a run's folder, or of the command that wrote the labels."""
    if (folder / "sam" / "card.json").is_file():
        return str(folder / "sam")
    if not (labels.parent / RUN_FILE).is_file():
        return ""
    try:
        name = read_run_file(labels.parent).config.get("sam")
    except DataError:
        return ""
    return name if isinstance(name, str) else ""


def read_labels(source: Source) -> StartingLabels:
    """The labels of a source. Raises DataError for a faulty file, and for one without images."""
    dataset = read_coco(source.labels, source.images, SourceLog())
    if not dataset.records:
        raise DataError(source.labels, "lists no image", "give labels with images")
    ids = {record.file_name: record.id for record in dataset.records}
    known = {record.id for record in dataset.records}
    missed: dict[int, float] = {}
    anomaly: dict[int, float] = {}
    for row in open_coco(source.labels).rows("images"):
        if isinstance(row, dict) and (image := _id(row, known, ids)) is not None:
            for key, values in ((_MISSED, missed), (_ANOMALY, anomaly)):
                if (value := _number(row.get(key))) is not None:
                    values[image] = value
    return StartingLabels(dataset, missed, anomaly)


def _id(row: dict[str, JsonValue], known: set[int], ids: dict[str, int]) -> int | None:
    if isinstance(number := row.get("id"), int) and number in known:
        return number
    name = row.get("file_name")
    return ids.get(name) if isinstance(name, str) else None


def _number(value: JsonValue) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e10 else None  # type: ignore[arg-type, operator]
