"""Reads Label Studio's JSON exports, of any labeling interface for images.

Of tasks, annotations and results see `label_studio_tasks`, of regions and their shapes
`label_studio_regions`, of the names of photos `label_studio_images`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import JsonValue, TypeAdapter
from pydantic_core import from_json

from pipeline.errors import DataError
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.image_objects import SourceObject, gather
from pipeline.formats.json_rows import EXTRA, JsonRows
from pipeline.formats.label_studio_images import Page, TaskImages
from pipeline.formats.label_studio_regions import (
    Size,
    draw_region,
    find_regions,
    shape_of,
)
from pipeline.formats.label_studio_schema import ROW, TASK, Row, Task
from pipeline.formats.label_studio_tasks import Annotators, Chosen, count_all
from pipeline.formats.schema import Text, checked_size
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error
from pipeline.io.images import read_size
from pipeline.io.read import RUN_FILE, checked, read_text, read_xml, shown_value
from pipeline.runtime.progress import say
from pipeline.types import Dataset, Detections, ImageRecord

TASKS, CONFIG = "tasks.json", "label_config.xml"
_LABEL = TypeAdapter(Text)
_OWN = frozenset({RUN_FILE, "fidelity.json"})  # of this program, beside the tasks
_SPLITS = ("split", "part")  # keys of the data; `part` as 0.7 wrote it


def read_label_studio(source: Path, images: Path | None, log: SourceLog) -> Dataset:
    """Read a JSON export, or the folder that holds it.

    Rectangles stay boxes; turned ones, ellipses, polygons and brush strokes become masks, and
    rectangles beside them filled masks. A task gives one annotation, or its first prediction if it
    has no annotation. images: the folder of images; without it, `images` beside the file, or the
    file's own folder. Categories are those of label_config.xml, where it lies beside the file, and
    the labels of the regions. Raises DataError.
    """
    path = _file_of(source)
    beside = path.parent / "images"
    key_of, categories = _interface(path.parent / CONFIG)
    photos = TaskImages(images or (beside if beside.is_dir() else path.parent), key_of)
    reader = _Reader(path, photos, log, categories)
    for where, entry in _entries(path):
        before = log.counted
        try:
            reader.add(checked(TASK, entry, path, where), where)
        except DataError as error:
            log.image_fault(where, error, count_all(entry) - (log.counted - before))
    return reader.dataset()


def _file_of(source: Path) -> Path:
    """The file of a folder: tasks.json, or else its only JSON file. Raises DataError."""
    if not source.is_dir():
        return source
    files = sorted(path for path in source.glob("*.json") if path.name not in _OWN)
    if (source / TASKS).is_file() or not files:
        return source / TASKS
    if files[1:]:
        names = ", ".join(path.name for path in files[:3])
        raise DataError(source, f"holds several JSON files ({names})", "give one of them")
    return files[0]


def _entries(path: Path) -> Iterator[tuple[str, JsonValue]]:
    """Each task with its place in the file. A file may hold a list of tasks, one task a line, one
    task, or one annotation with its task, as cloud storage gets them. Raises DataError."""
    for number, entry in enumerate(map(_with_task, _values(path)), start=1):
        if not isinstance(entry, dict) or "data" not in entry:
            is_min = isinstance(entry, dict) and entry.keys() & {"annotation_id", "annotator"}
            name = "Label Studio's JSON-MIN" if is_min else "not Label Studio's JSON"
            raise DataError(path, f"is {name}", "export as JSON, not JSON-MIN")
        key = entry.get("id")
        yield f"task {shown_value(key)}" if key is not None else f"task number {number}", entry


def _with_task(entry: JsonValue) -> JsonValue:
    """A task; of an annotation with its task, the task with the annotation."""
    task = entry.get("task") if isinstance(entry, dict) and "result" in entry else None
    if not isinstance(task, dict):
        return entry
    return {"id": task.get("id"), "data": task.get("data"), "annotations": [entry]}


def _values(path: Path) -> Iterator[JsonValue]:
    """The entries of a list, the one value of a file, or those of JSON Lines. Raises DataError."""
    try:
        raw = JsonRows(path)
    except DataError as error:
        if EXTRA not in error.reason:
            raise
        yield from _lines(path)
        return
    yield from raw.rows() if raw.is_list else [raw.values]


def _lines(path: Path) -> Iterator[JsonValue]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            with as_data_error(path, f"line {number}", "write it again"):
                value: JsonValue = from_json(line)
            yield value


class _Reader:
    """Collects the images and objects of tasks."""

    def __init__(
        self, path: Path, photos: TaskImages, log: SourceLog, categories: Sequence[str]
    ) -> None:
        self._path, self._photos, self._log = path, photos, log
        self._annotators = Annotators(log)
        self._declared = len(categories)
        self._labels = {name: label for label, name in enumerate(categories)}
        self._records: list[ImageRecord] = []
        self._objects: dict[int, Detections] = {}
        self._owners: dict[str, str] = {}  # the task of each photo

    def add(self, task: Task, where: str) -> None:
        """Add the images of a task. Raises DataError."""
        chosen = self._annotators.choose(task, where)
        if chosen is None:
            return
        rows = [
            checked(ROW, row, self._path, f"{where} result {number}")
            for number, row in enumerate(chosen.results, start=1)
        ]
        with as_data_error(self._path, where, "correct it, or export it again"):
            pages = self._pages(task, where, _tag(rows))
            for number, page in enumerate(pages):
                own = [row for row in rows if (row.get("item_index") or 0) == number]
                self._add_page(page, own, task, where, chosen)
        for row in rows:
            if (row.get("item_index") or 0) >= len(pages):
                self._log.leave_out(row["type"], "its task has no such page", where)

    def _pages(self, task: Task, where: str, tag: str) -> list[Page]:
        """The photos of a task. tag: that shows the regions. Raises DataError for one that is not
        there, and where another task means it too."""
        try:
            pages = self._photos.find(task["data"], tag)
        except DataError as error:
            raise DataError(error.path, f"{error.reason} ({where})", error.remedy) from error
        for number, (place, name) in enumerate(pages, start=1):
            page = f"{where} page {number}" if pages[1:] else where
            if (owner := self._owners.setdefault(name, page)) != page:
                raise DataError(place, f"is the photo of {owner} and of {page}", "keep one of them")
        return pages

    def _add_page(
        self, page: Page, rows: Sequence[Row], task: Task, where: str, chosen: Chosen
    ) -> None:
        place, name = page
        size = _size(rows) or read_size(place)
        texts = [text for key in _SPLITS if isinstance(text := task["data"].get(key), str)]
        split = next(filter(None, texts), "")
        record = ImageRecord(len(self._records) + 1, place, name, *size, split=split)
        refuse_false_size(place, size)
        objects: list[SourceObject] = []
        for region in find_regions(rows, self._path, where, self._log):
            label = self._labels.setdefault(region.label, len(self._labels))
            try:
                drawn = draw_region(region, label, size, self._path, self._log)
            except DataError as error:
                self._log.object_fault(region.kind, region.where, error)
                continue
            if drawn is not None:
                objects.append(replace(drawn, score=chosen.score_of(region.score)))
        self._objects[record.id] = gather(objects, size, self._log)
        self._records.append(record)

    def dataset(self) -> Dataset:
        """All images. Labels that the labeling interface does not declare come last, sorted. Raises
        DataError for an annotator that the file does not have."""
        try:
            self._annotators.refuse_unknown()
        except ValueError as error:
            raise DataError(self._path, str(error), "check --annotator") from error
        if count := self._annotators.unlabelled:
            say(f"{count} tasks without an annotation: listed as images without objects")
        names = list(self._labels)
        ordered = names[: self._declared] + sorted(names[self._declared :])
        place = {name: label for label, name in enumerate(ordered)}
        order = np.array([place[name] for name in names], dtype=np.int64)
        objects = {
            key: replace(each, labels=order[each.labels]) for key, each in self._objects.items()
        }
        return Dataset(tuple(ordered), tuple(self._records), objects)


def _tag(rows: Sequence[Row]) -> str:
    """The tag of the labeling interface that shows the regions; "" without regions. Raises
    ValueError for regions on several images beside each other. The pages of one image are no
    fault."""
    images = {name for row in rows if shape_of(row) and (name := row.get("to_name"))}
    if len(images) > 1:
        names = ", ".join(map(shown_value, sorted(images)))
        raise ValueError(f"its regions are on several images beside each other ({names})")
    return next(iter(images), "")


def _size(rows: Sequence[Row]) -> Size | None:
    """The size that the results say. Raises ValueError for one that no image has."""
    for row in rows:
        height, width = row.get("original_height"), row.get("original_width")
        if height and width:
            return checked_size(height, width)
    return None


def _interface(config: Path) -> tuple[dict[str, str], list[str]]:
    """The keys of the data that a labeling interface shows as images, by the name of their tag, and
    its labels; nothing without the file."""
    if not config.is_file():
        return {}, []
    tags = list(read_xml(config).iter())
    shown: dict[str, str] = {}
    for tag in tags:
        if tag.tag == "Image":
            key = tag.get("value") or tag.get("valueList") or ""
            shown[tag.get("name") or key] = key.removeprefix("$")
    labels = [
        label.get("alias") or label.get("value") or ""
        for tag in tags if tag.tag.endswith("Labels") for label in tag.iter("Label")
    ]  # fmt: skip
    names = [checked(_LABEL, name, config) for name in dict.fromkeys(labels)]
    return shown, names
