"""Faults of a YOLO dataset that ultralytics does not report, and their fixes where these are
safe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.data_yaml import DataYaml, images_of, read_data_yaml
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.source import SourceLog
from pipeline.formats.validation.findings import (
    REJECTED,
    Finding,
    check_image,
    colliding_stems,
)
from pipeline.formats.values import file_mode
from pipeline.formats.yolo_labels import label_file_of
from pipeline.formats.yolo_reader import LabelFiles, label_files_in
from pipeline.formats.yolo_sets import read_description
from pipeline.io.read import read_text, shown_value
from pipeline.runtime.progress import track
from pipeline.types import SPLITS

_SLACK = 1e-6


@dataclass
class YoloCheck:
    """The faults of a dataset. fixed: the new text of each label file that a fix changes. rejected:
    the rows of each label file that a fix takes out."""

    findings: list[Finding] = field(default_factory=list)
    fixed: dict[Path, str] = field(default_factory=dict)
    rejected: dict[Path, list[str]] = field(default_factory=dict)


def check_yolo(source: Path, allow_outside: bool = False) -> YoloCheck:
    """All faults of a dataset.

    source: a data.yaml, the folder that holds it, or one with a list of classes, as for
    `read_yolo`. A folder or list of images that is not there is a fault, and the others are
    checked. Raises DataError for another file, and for a dataset with files outside the folder of
    its data.yaml, after links are resolved, unless `allow_outside`.
    """
    path, data = read_description(source, SourceLog())
    folders = NamedFolders([path.parent], allow_outside)
    findings = [*_check_names(path, data), *_other_root(path, data)]
    split_of_image: dict[Path, str] = {}
    for split in (*SPLITS, ""):
        gone: list[str] = []
        for image in images_of(path, [data.root(path)], data.places(split), folders,
                               on_missing=gone.append):  # fmt: skip
            split_of_image.setdefault(image, split)
        text = f"there is no folder or list of images %s for {split or 'the images'}"
        findings += [Finding("missing split", path, "", text % shown_value(name)) for name in gone]
    images = list(split_of_image)
    findings += colliding_stems([str(image) for image in images], path)
    findings += _shared_names(path, split_of_image)
    check = YoloCheck()
    labels = LabelFiles(data.root(path), None)
    for image in track(images, "check"):
        label_file = labels.of(image)
        findings += check_image(image, f"image {image.name}", path, None)
        if file_mode(label_file):
            folders.refuse_outside(label_file)
            if label_file != (usual := label_file_of(image)):
                text = f"ultralytics looks for {usual}"
                findings.append(Finding("label file elsewhere", label_file, "", text))
            findings += _check_file(label_file, data, check)
    check.findings = [*findings, *_orphans({labels.of(image) for image in images})]
    return check


def _check_file(label_file: Path, data: DataYaml, check: YoloCheck) -> list[Finding]:
    """The faults of a label file. What a fix changes in it goes to `check`."""
    try:
        content = read_text(label_file)
    except DataError as error:
        return [Finding("unreadable label file", label_file, "", error.reason)]
    findings, text, rejected = _check_labels(label_file, content, data)
    if any(fault.fix for fault in findings):
        check.fixed[label_file] = text
    if rejected:
        check.rejected[label_file] = rejected
    return findings


def _other_root(path: Path, data: DataYaml) -> Iterator[Finding]:
    """The fault of a data.yaml whose `path` is not there. data: as it is read without it."""
    if path.suffix.lower() not in {".yaml", ".yml"}:
        return
    stated = read_data_yaml(path).path
    if stated and stated != data.path:
        text = f"there is no folder {shown_value(stated)}; checked is what is in {data.root(path)}"
        yield Finding("path of another machine", path, "path", text)


def _check_names(path: Path, data: DataYaml) -> Iterator[Finding]:
    names = data.names
    if sorted(names) != list(range(len(names))):
        text = f"names are numbered {sorted(names)[:20]}"
        yield Finding("categories disagree", path, "names", text)
    if data.nc is not None and data.nc != len(names):
        text = f"nc is {data.nc}, but there are {len(names)} names"
        yield Finding("categories disagree", path, "nc", text)
    for name, count in Counter(names.values()).items():
        if count > 1:
            yield Finding("categories disagree", path, name, "two categories have this name")
    if not data.train or not data.val:
        text = "ultralytics needs a data.yaml with both train and val"
        yield Finding("missing split", path, "", text)


def _shared_names(path: Path, split_of_image: dict[Path, str]) -> Iterator[Finding]:
    """Files with one name in two splits: often the same image in both training and test."""
    splits: dict[str, set[str]] = {}
    for image, split in split_of_image.items():
        splits.setdefault(image.name, set()).add(split)
    for name, several in splits.items():
        if len(several) > 1:
            text = f"is in {' and '.join(sorted(several))}"
            yield Finding("image in two splits", path, name, text)


def _orphans(expected: set[Path]) -> Iterator[Finding]:
    """expected: the label files of all images."""
    for path in label_files_in({path.parent for path in expected}):
        if path not in expected:
            yield Finding("label without image", path, "", "no listed image has this stem")


def _check_labels(path: Path, content: str, data: DataYaml) -> tuple[list[Finding], str, list[str]]:
    """The faults of a label file, its text after the fix, and the rows that the fix takes out."""
    findings: list[Finding] = []
    rejected: list[str] = []
    rows: dict[str, None] = {}  # in order, and quick to search
    shapes: set[str] = set()
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        faults, row = _check_row(path, f"row {number}", line, data)
        findings += faults
        if not row:
            rejected.append(line)
        elif row in rows:
            text = "is there twice; ultralytics drops one"
            findings.append(Finding("duplicate row", path, f"row {number}", text, "removed"))
        else:
            rows[row] = None
            shapes.add("box" if len(row.split()) == 5 else "polygon")
    if len(shapes) > 1:
        text = "has rows of boxes and of polygons; ultralytics makes polygons of all"
        findings.append(Finding("mixed rows", path, "", text))
    return findings, "".join(f"{row}\n" for row in rows), rejected


def _check_row(  # noqa: PLR0911  # one return a fault
    path: Path, where: str, line: str, data: DataYaml
) -> tuple[list[Finding], str]:
    """The faults of a row, and its text after the fix; an empty text for a row that is removed."""
    words = line.split()
    text = " ".join(words)
    try:
        label, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return [Finding("row not numbers", path, where, text[:60])], text
    if label not in data.names:
        fault = f"names label {words[0]}, but there are {len(data.names)} categories"
        return [Finding("categories disagree", path, where, fault)], text
    if data.kpt_shape and len(values) == 4 + data.kpt_shape[0] * data.kpt_shape[1]:
        return [], text  # a pose
    if len(values) == 5:
        fault = "has a sixth column, a confidence or a track, which ultralytics does not read"
        rest = " ".join(words[:5])
        return [Finding("sixth column", path, where, fault, "cut off")], rest
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        fault = f"has {len(values)} numbers: 4, or 6 and more, in pairs"
        return [Finding("polygon under 3 points", path, where, fault, REJECTED)], ""
    if not all(math.isfinite(value) for value in values):
        return [Finding("row not numbers", path, where, text[:60], REJECTED)], ""
    if len(values) == 4 and (values[2] <= 0 or values[3] <= 0):
        return [Finding("zero area", path, where, "a side of its box is 0", REJECTED)], ""
    clipped = _clipped(values)
    outside = max(abs(one - other) for one, other in zip(values, clipped, strict=True))
    if outside > _SLACK:
        kind = "box outside the image" if len(values) == 4 else "polygon outside the image"
        if len(values) == 4 and (clipped[2] <= 0 or clipped[3] <= 0):
            return [Finding(kind, path, where, "is wholly outside", REJECTED)], ""
        numbers = " ".join(f"{value:.6f}" for value in clipped)
        fault = f"by {outside:.3g} of the image"
        return [Finding(kind, path, where, fault, "clipped to the image")], f"{words[0]} {numbers}"
    return [], text


def _clipped(values: list[float]) -> list[float]:
    """A box or polygon clipped to [0, 1]."""
    if len(values) != 4:
        return [min(max(value, 0.0), 1.0) for value in values]
    x, y, width, height = values
    sides = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if min(sides) >= -_SLACK and max(sides) <= 1 + _SLACK:
        return values
    x0, y0, x1, y1 = (min(max(side, 0.0), 1.0) for side in sides)
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
