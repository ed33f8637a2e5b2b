"""Which tool wrote a file or a folder of labels, so that a refusal names the format and the command
that reads it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.io.read import files_below, read_json, read_text, read_xml

_MOST_BYTES = 64 << 20  # of a file that is opened only to name it
_MOST_FILES = 200  # of labels in a folder that are looked at
_DOTA = re.compile(r"^(-?\d+(\.\d+)?\s+){8}\S*[A-Za-z]\S*(\s+\d)?$")
_DOTA_HEAD = ("imagesource:", "gsd:")
_SUFFIXES = {".json", ".geojson", ".ndjson", ".jsonl", ".xml", ".txt", ".csv", ".tsv"}
_YOLO_FILES = {"data.yaml", "data.yml", "classes.txt", "obj.names", "obj.data"}


@dataclass(frozen=True)
class Foreign:
    """A format. name: its name. origin: its word for `import --from`; "" for one that is not read.
    path: the file that shows it."""

    name: str
    origin: str
    path: Path

    def refusal(self, source: Path, reason: str) -> DataError:
        """An error that names the format of a source, and what reads it."""
        inside = self.path.is_relative_to(source) and self.path != source
        where = f" ({self.path.relative_to(source).as_posix()})" if inside else ""
        if self.origin:
            remedy = f"read it with pipeline import {source} --from {self.origin} -o labels"
        else:
            remedy = "no command reads this format: export it as COCO"
        return DataError(source, f"{reason} {self.name}{where}", remedy)


def foreign_format(source: Path) -> Foreign | None:
    """The format of a file, or of the first file in a folder that shows one; None for another."""
    return next(foreign_formats(source), None)


def foreign_formats(source: Path) -> Iterator[Foreign]:
    """The format of a file, or of each file in a folder that shows one."""
    if not source.exists():
        return
    for path in _likely(source) if source.is_dir() else (source,):
        if found := _of_file(path):
            yield found


def _likely(folder: Path) -> Iterator[Path]:
    """Files that tell a format: those that describe a set come before those of single images."""
    below = (Path(text) for text in files_below(folder))
    named = (path for path in below if path.name in _YOLO_FILES or path.suffix.lower() in _SUFFIXES)
    paths = itertools.islice(named, _MOST_FILES)
    return iter(sorted(paths, key=lambda path: path.name not in _YOLO_FILES | {"meta.json"}))


def _of_file(path: Path) -> Foreign | None:
    """The format of one file by its content."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        name = _named(path)
    except (DataError, OSError, ValueError, RecursionError):
        return None  # whoever reads it says why
    return Foreign(*name, path) if name else None


def _named(path: Path) -> tuple[str, str] | None:
    suffix = path.suffix.lower()
    if path.name in _YOLO_FILES:
        return "a YOLO set", "yolo"
    if suffix in {".json", ".geojson"}:
        return json_format(read_json(path))
    if suffix == ".xml":
        return _XML.get(read_xml(path).tag)
    return _of_text(read_text(path), suffix)


def _of_text(text: str, suffix: str) -> tuple[str, str] | None:
    """The format of rows of text: one JSON each, a table, or numbers."""
    if suffix in {".ndjson", ".jsonl"}:
        return json_format([json.loads(text.partition("\n")[0])])
    if suffix == ".csv" and text.startswith(_VIA_CSV):
        return "VGG Image Annotator CSV", ""
    if suffix in {".csv", ".tsv"} and {*_CELLS.split(text.partition("\n")[0])} >= _STUDIO_CSV:
        return "a Label Studio CSV", ""
    return ("DOTA labels", "") if suffix == ".txt" and _is_dota(text) else None


_STUDIO_CSV = {"annotation_id", "annotator", "lead_time"}
_CELLS = re.compile(r'["\s,]+')
_VIA_CSV = ("#filename,file_size,", "filename,file_size,")
_XML = {
    "annotation": ("Pascal VOC labels", "voc"),
    "annotations": ("CVAT XML", "cvat"),
}


def json_format(content: JsonValue) -> tuple[str, str] | None:
    """The name and the word for `--from` of the tool whose JSON this is; None for another."""
    if isinstance(content, dict):
        return _of_mapping(content)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return _of_list(content[0].keys())
    return None


def _of_mapping(content: Mapping[str, JsonValue]) -> tuple[str, str] | None:
    keys = content.keys()
    for needed, name in _MAPPINGS:
        if needed <= keys:
            return name
    first = next(iter(content.values()), None)
    if isinstance(first, dict) and {"filename", "regions"} <= first.keys():
        return _VIA
    return None


def _of_list(keys: Set[str]) -> tuple[str, str] | None:
    return next((name for needed, name in _LISTS if needed <= keys), None)


_VIA = ("VGG Image Annotator JSON", "")
_MAPPINGS: tuple[tuple[set[str], tuple[str, str]], ...] = (
    ({"_via_img_metadata"}, _VIA),
    ({"metadata", "attribute", "view"}, ("VGG Image Annotator 3 JSON", "")),
    ({"dm_format_version"}, ("Datumaro JSON", "")),
    ({"items", "categories", "info"}, ("Datumaro JSON", "")),
    ({"images", "annotations"}, ("COCO labels", "coco")),
    ({"shapes"}, ("LabelMe JSON", "labelme")),
    ({"objects", "size"}, ("Supervisely JSON", "")),
    ({"classes", "tags"}, ("Supervisely JSON", "")),
    ({"data", "annotations"}, ("Label Studio JSON", "label-studio")),
    ({"features", "type"}, ("GeoJSON", "")),
)
_LISTS: tuple[tuple[set[str], tuple[str, str]], ...] = (
    ({"image_id", "category_id"}, ("COCO results", "coco-results")),
    ({"data", "annotations"}, ("Label Studio JSON", "label-studio")),
    ({"data", "predictions"}, ("Label Studio JSON", "label-studio")),
    ({"annotation_id", "id"}, ("Label Studio JSON-MIN", "")),
    ({"image", "annotations"}, ("Create ML JSON", "")),
    ({"data_row", "projects"}, ("Labelbox JSON", "")),
    ({"Labeled Data", "Label"}, ("Labelbox JSON", "")),
    ({"name", "labels"}, ("Scalabel JSON", "")),
)


def _is_dota(text: str) -> bool:
    """Whether each row is eight numbers, a name and perhaps how difficult it is."""
    rows = [line.strip() for line in text.splitlines() if line.strip()]
    rows = [row for row in rows if not row.startswith(_DOTA_HEAD)]
    return bool(rows) and all(map(_DOTA.match, rows))
