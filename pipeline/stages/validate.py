"""`pipeline validate`: every fault of COCO files and YOLO sets, by file and id; `--fix` mends what
is safe and keeps the original beside it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.formats.coco import images_beside
from pipeline.formats.text_stream import text_file
from pipeline.formats.validation.coco import check_coco
from pipeline.formats.validation.findings import Finding
from pipeline.formats.validation.yolo import check_yolo
from pipeline.io.write import whole_file, write_error


def validate(
    sources: Sequence[Path],
    images: Path | None = None,
    fix: bool = False,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Check COCO JSON files, and YOLO sets by data.yaml or the folder that holds it.

    images: the folder of the COCO files' images; without it, `images` beside a file or its folder,
    if there. allow_outside: a YOLO set may lie outside the folder of its data.yaml. Returns counts
    by kind and each finding as a line; `exit_code` is 1 when a fault is left. Raises DataError for
    what is neither.
    """
    findings: list[Finding] = []
    backups: list[str] = []
    categories: dict[Path, Mapping[object, object]] = {}
    for source in sources:
        changed: Mapping[Path, Iterable[str]]
        if source.suffix == ".json":
            check = check_coco(source, images or images_beside(source))
            found, categories[source] = check.findings, check.categories
            changed = {source: check.text()} if check.changes else {}
        elif source.is_dir() or source.suffix in {".yaml", ".yml"}:
            found, texts = check_yolo(source, allow_outside)
            changed = {path: [text] for path, text in texts.items()}
        else:
            raise DataError(source, "is neither COCO JSON nor a YOLO set", "check the path")
        findings += found
        if fix:
            backups += [str(_replace(path, pieces)) for path, pieces in changed.items()]
    findings += _disagreements(categories)
    left = [finding for finding in findings if not (fix and finding.mend)]
    return {
        "checked": [str(source) for source in sources],
        "faults": len(findings),
        "by_kind": dict(sorted(Counter(finding.kind for finding in findings).items())),
        "mended": len(findings) - len(left) if fix else 0,
        "originals": backups,
        "left": [str(finding) for finding in left],
    } | ({"exit_code": 1} if left else {})


def _disagreements(categories: Mapping[Path, Mapping[object, object]]) -> list[Finding]:
    """Files of one set, such as train and val, must number their categories alike."""
    listed = list(categories.items())
    return [
        Finding("categories disagree", path, "", f"has other categories than {listed[0][0]}")
        for path, names in listed[1:]
        if names != listed[0][1]
    ]


def _replace(path: Path, pieces: Iterable[str]) -> Path:
    """Write the mended file; the original keeps its name with `.orig`, or `.orig2` and so on."""
    number = 1
    try:
        while (
            backup := path.with_name(f"{path.name}.orig{number if number > 1 else ''}")
        ).exists():
            number += 1
        with whole_file(backup) as temporary:
            shutil.copy2(path, temporary)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        with text_file(path) as file:
            file.writelines(pieces)
    except RecursionError as error:
        raise DataError(path, "is nested too deeply to be written again", "mend it") from error
    return backup
