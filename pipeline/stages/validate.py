"""`pipeline validate`: every fault of COCO files and YOLO sets, by file and id; `--fix` mends what
is safe and keeps the original beside it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.formats.check_coco import check_coco
from pipeline.formats.check_yolo import check_yolo
from pipeline.formats.coco import images_beside
from pipeline.formats.findings import Finding
from pipeline.io.read import read_json
from pipeline.io.write import write_error, write_json, write_text


def validate(
    sources: Sequence[Path], images: Path | None = None, fix: bool = False
) -> dict[str, Any]:
    """Check COCO JSON files, and YOLO sets by data.yaml or the folder that holds it.

    images: the folder of the COCO files' images; without it, `images` beside a file or its folder,
    if there. Returns counts by kind and each finding as a line; `exit_code` is 1 when a fault is
    left. Raises DataError for what is neither.
    """
    findings: list[Finding] = []
    backups: list[str] = []
    for source in sources:
        if source.suffix == ".json":
            found, content = check_coco(source, images or images_beside(source))
            changed = {source: content} if any(finding.mend for finding in found) else {}
        elif source.is_dir() or source.suffix in {".yaml", ".yml"}:
            found, changed = check_yolo(source)  # type: ignore[assignment]
        else:
            raise DataError(source, "is neither COCO JSON nor a YOLO set", "check the path")
        findings += found
        if fix:
            backups += [str(_replace(path, value)) for path, value in changed.items()]
    findings += _disagreements([source for source in sources if source.suffix == ".json"])
    left = [finding for finding in findings if not (fix and finding.mend)]
    return {
        "checked": [str(source) for source in sources],
        "faults": len(findings),
        "by_kind": dict(sorted(Counter(finding.kind for finding in findings).items())),
        "mended": len(findings) - len(left) if fix else 0,
        "originals": backups,
        "left": [str(finding) for finding in left],
    } | ({"exit_code": 1} if left else {})


def _disagreements(files: Sequence[Path]) -> list[Finding]:
    """Files of one set, such as train and val, must number their categories alike."""
    listed = [
        (path, {entry.get("id"): entry.get("name") for entry in read_json(path)["categories"]})
        for path in files
    ]
    return [
        Finding("categories disagree", path, "", f"has other categories than {listed[0][0]}")
        for path, categories in listed[1:]
        if categories != listed[0][1]
    ]


def _replace(path: Path, value: Any) -> Path:
    """Write the mended file; the original keeps its name with `.orig`, or `.orig2` and so on."""
    number = 1
    while (backup := path.with_name(f"{path.name}.orig{number if number > 1 else ''}")).exists():
        number += 1
    try:
        shutil.copy2(path, backup)
    except OSError as error:
        raise write_error(backup, error) from error
    if isinstance(value, str):
        write_text(path, value)
    else:
        write_json(path, value)
    return backup
