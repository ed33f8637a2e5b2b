"""Faults of a YOLO set that ultralytics meets in silence, and the mending of those that is safe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.formats.data_yaml import (
    DataYaml,
    images_of,
    read_data_yaml,
)
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.validation.findings import Finding, check_image, colliding_stems
from pipeline.formats.values import kind_of_file
from pipeline.formats.yolo import label_file_of
from pipeline.io.read import read_text
from pipeline.runtime.progress import track
from pipeline.types import SPLITS

_SLACK = 1e-6


def check_yolo(source: Path, allow_outside: bool = False) -> tuple[list[Finding], dict[Path, str]]:
    """Every fault of a set, by its data.yaml or the folder that holds it, and the label files whose
    text changes when all that is safe is mended. Raises DataError for what is no YOLO set, and for
    one whose files lie outside the folder of its data.yaml, links resolved, unless
    `allow_outside`."""
    path = source / "data.yaml" if source.is_dir() else source
    described = read_data_yaml(path)
    folders = NamedFolders([path.parent], allow_outside)
    findings = list(_check_names(path, described))
    seen: dict[Path, str] = {}
    images: list[Path] = []
    for split in SPLITS:
        for image in images_of(path, described.root(path), described.places(split), folders):
            if image not in seen:
                images.append(image)
            seen.setdefault(image, split)
    findings += colliding_stems([str(image) for image in images], path)
    findings += _shared_names(path, seen)
    mended: dict[Path, str] = {}
    for image in track(images, "check"):
        label_file = label_file_of(image)
        findings += check_image(image, f"image {image.name}", path, None)
        if kind_of_file(label_file):
            folders.refuse_outside(label_file)
            found, text = _check_labels(label_file, len(described.names))
            findings += found
            if any(finding.mend for finding in found):
                mended[label_file] = text
    findings += _orphans(images)
    return findings, mended


def _check_names(path: Path, described: DataYaml) -> Iterator[Finding]:
    names = described.names
    if sorted(names) != list(range(len(names))):
        text = f"names are numbered {sorted(names)[:20]}"
        yield Finding("categories disagree", path, "names", text)
    if described.nc is not None and described.nc != len(names):
        text = f"nc is {described.nc}, but there are {len(names)} names"
        yield Finding("categories disagree", path, "nc", text)
    for name, count in Counter(names.values()).items():
        if count > 1:
            yield Finding("categories disagree", path, name, "two categories have this name")
    if not described.train or not described.val:
        yield Finding("missing split", path, "", "ultralytics needs both train and val")


def _shared_names(path: Path, seen: dict[Path, str]) -> Iterator[Finding]:
    """Two files of one name in two splits: often the same picture, trained and tested on."""
    splits: dict[str, set[str]] = {}
    for image, split in seen.items():
        splits.setdefault(image.name, set()).add(split)
    for name, found in splits.items():
        if len(found) > 1:
            text = f"is in {' and '.join(sorted(found))}"
            yield Finding("image in two splits", path, name, text)


def _orphans(images: list[Path]) -> Iterator[Finding]:
    expected = {label_file_of(image) for image in images}
    for folder in sorted({path.parent for path in expected if path.parent.is_dir()}):
        for path in sorted(folder.glob("*.txt")):
            if path not in expected:
                yield Finding("label without image", path, "", "no listed image has this stem")


def _check_labels(path: Path, categories: int) -> tuple[list[Finding], str]:
    findings: list[Finding] = []
    kept: dict[str, None] = {}  # in order, and quick to search
    kinds: set[str] = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        found, row = _check_row(path, f"row {number}", line, categories)
        findings += found
        if row in kept:
            text = "is there twice; ultralytics drops one"
            findings.append(Finding("duplicate row", path, f"row {number}", text, "removed"))
        elif row:
            kept[row] = None
            kinds.add("box" if len(row.split()) == 5 else "polygon")
    if len(kinds) > 1:
        text = "has rows of boxes and of polygons; ultralytics makes polygons of all"
        findings.append(Finding("mixed rows", path, "", text))
    return findings, "".join(f"{row}\n" for row in kept)


def _check_row(  # noqa: PLR0911  # one return a fault
    path: Path, where: str, line: str, categories: int
) -> tuple[list[Finding], str]:
    """The faults of a row, and its text when mended; an empty text where it is removed."""
    words = line.split()
    text = " ".join(words)
    try:
        label, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        return [Finding("row not numbers", path, where, text[:60])], text
    if not label.is_integer() or not 0 <= label < categories:
        found = f"names label {words[0]}, but there are {categories} categories"
        return [Finding("categories disagree", path, where, found)], text
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        found = f"has {len(values)} numbers: 4, or 6 and more, in pairs"
        return [Finding("polygon under 3 points", path, where, found, "removed")], ""
    if not all(math.isfinite(value) for value in values):
        return [Finding("row not numbers", path, where, text[:60], "removed")], ""
    if len(values) == 4 and (values[2] <= 0 or values[3] <= 0):
        return [Finding("zero area", path, where, "a side of its box is 0", "removed")], ""
    cut = _cut(values)
    outside = max(abs(one - other) for one, other in zip(values, cut, strict=True))
    if outside > _SLACK:
        kind = "box outside the image" if len(values) == 4 else "polygon outside the image"
        if len(values) == 4 and (cut[2] <= 0 or cut[3] <= 0):
            return [Finding(kind, path, where, "is wholly outside", "removed")], ""
        numbers = " ".join(f"{value:.6f}" for value in cut)
        found = f"by {outside:.3g} of the image"
        return [Finding(kind, path, where, found, "cut to the image")], f"{words[0]} {numbers}"
    return [], text


def _cut(values: list[float]) -> list[float]:
    """A box or polygon cut to [0, 1]."""
    if len(values) != 4:
        return [min(max(value, 0.0), 1.0) for value in values]
    x, y, width, height = values
    sides = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if min(sides) >= -_SLACK and max(sides) <= 1 + _SLACK:
        return values
    x0, y0, x1, y1 = (min(max(side, 0.0), 1.0) for side in sides)
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
