"""`pipeline validate`: all faults of COCO files and YOLO datasets. `--fix` corrects the faults that
have a safe fix, keeps the original file beside the new one, and moves what no tool can read into
rejected.json."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.coco import images_beside
from pipeline.formats.coco_schema import PARQUET, JsonKey
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.text_stream import text_file
from pipeline.formats.validation.coco import check_coco
from pipeline.formats.validation.findings import Finding
from pipeline.formats.validation.yolo import check_yolo
from pipeline.io.read import checked, read_json
from pipeline.io.write import whole_file, write_error, write_json
from pipeline.results import StageResult

_REJECTED_FILE = "rejected.json"
_REJECTED = TypeAdapter(dict[str, list[JsonValue]])


@dataclass(frozen=True, kw_only=True)
class ValidateResult(StageResult):
    """checked: the sources. faults: their number, of which `fixed` are fixed. by_kind: number of
    faults by name. originals: copies of the files that were changed. rejected: number of
    annotations or rows that were moved into `rejected_files`. left: a line for each fault that is
    not fixed, with its file and entry."""

    checked: tuple[Path, ...]
    faults: int
    by_kind: Mapping[str, int]
    fixed: int
    originals: tuple[Path, ...]
    rejected: int = 0
    rejected_files: tuple[Path, ...] = ()
    left: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 when a fault is left."""
        return 1 if self.left else 0


@dataclass(frozen=True)
class _Check:
    """The faults of one source. changed: the new text, in pieces, of each file that a fix changes.
    rejected: what a fix takes out of each file. categories: of a COCO file, name by id."""

    findings: Sequence[Finding]
    changed: Mapping[Path, Iterable[str]]
    rejected: Mapping[Path, Sequence[JsonValue]]
    categories: Mapping[JsonKey, JsonValue] | None = None


def validate(
    sources: Sequence[Path],
    *,
    images: Path | None = None,
    fix: bool = False,
    allow_outside: bool = False,
) -> ValidateResult:
    """Check COCO JSON files and YOLO datasets.

    sources: COCO files, and data.yaml files or the folders that hold them. images: the folder of
    the images of COCO files; without it, `images` beside a file or its folder, if there. fix: fix
    what is safe. allow_outside: a YOLO dataset may be outside the folder of its data.yaml. Raises
    DataError for a source of another type.
    """
    findings: list[Finding] = []
    originals: list[Path] = []
    rejected: dict[Path, int] = {}
    categories: dict[Path, Mapping[JsonKey, JsonValue]] = {}
    for source in sources:
        check = _check(source, images, allow_outside)
        findings += check.findings
        if check.categories is not None:
            categories[source] = check.categories
        if fix:
            rejected |= _reject(check.rejected)
            originals += [_replace(path, pieces) for path, pieces in check.changed.items()]
    findings += _disagreements(categories)
    left = [finding for finding in findings if not (fix and finding.fix)]
    return ValidateResult(
        checked=tuple(sources),
        faults=len(findings),
        by_kind=dict(sorted(Counter(finding.kind for finding in findings).items())),
        fixed=len(findings) - len(left) if fix else 0,
        originals=tuple(originals),
        rejected=sum(rejected.values()),
        rejected_files=tuple(rejected),
        left=tuple(map(str, left)),
    )


def _check(source: Path, images: Path | None, allow_outside: bool) -> _Check:
    if source.suffix in {".json", PARQUET}:
        check = check_coco(source, images or images_beside(source))
        if not isinstance(check.raw, JsonRows):  # --fix writes one file of JSON
            return _Check([replace(each, fix="") for each in check.findings], {}, {},
                          check.categories)  # fmt: skip
        changed = {source: check.text()} if check.changes else {}
        rejected = {source: check.rejected} if check.rejected else {}
        return _Check(check.findings, changed, rejected, check.categories)
    if source.is_dir() or source.suffix in {".yaml", ".yml"}:
        yolo = check_yolo(source, allow_outside)
        texts = {path: [text] for path, text in yolo.fixed.items()}
        return _Check(yolo.findings, texts, yolo.rejected)
    raise DataError(source, "is neither COCO JSON nor a YOLO set", "check the path")


def _disagreements(categories: Mapping[Path, Mapping[JsonKey, JsonValue]]) -> list[Finding]:
    """The files that number their categories differently from the first: files of one dataset, such
    as train and val, need the same numbers."""
    listed = list(categories.items())
    return [
        Finding("categories disagree", path, "", f"has other categories than {listed[0][0]}")
        for path, names in listed[1:]
        if names != listed[0][1]
    ]


def _reject(entries: Mapping[Path, Sequence[JsonValue]]) -> dict[Path, int]:
    """Add entries to rejected.json beside their file, by the name of the file. Returns the number
    of entries by rejected.json."""
    counts: dict[Path, int] = {}
    for path, rows in entries.items():
        target = path.with_name(_REJECTED_FILE)
        before = checked(_REJECTED, read_json(target), target) if target.exists() else {}
        added = [_finite(row) for row in rows]
        write_json(target, {**before, path.name: [*before.get(path.name, []), *added]})
        counts[target] = counts.get(target, 0) + len(rows)
    return counts


def _finite(value: JsonValue) -> JsonValue:
    """A value of JSON, where numbers that JSON does not have, such as NaN, are text."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _replace(path: Path, pieces: Iterable[str]) -> Path:
    """Write the fixed file. The original gets the suffix `.orig`, or `.orig2` and so on; its path
    is returned."""
    number = 1
    try:
        while (
            original := path.with_name(f"{path.name}.orig{number if number > 1 else ''}")
        ).exists():
            number += 1
        with whole_file(original) as temporary:
            shutil.copy2(path, temporary)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        with text_file(path) as file:
            file.writelines(pieces)
    except RecursionError as error:
        raise DataError(path, "is nested too deeply to be written again", "correct it") from error
    return original
