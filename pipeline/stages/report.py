"""`pipeline report`: one self-contained page about a run."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, UndefinedError, select_autoescape
from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.io.read import RUN_FILE, read_bytes
from pipeline.io.run_record import read_run_file
from pipeline.io.write import write_text
from pipeline.results import StageResult

_GENERATOR = b'<meta name="generator" content="defect-pipeline">'
_PNG = b"\x89PNG\r\n\x1a\n"
_HEAD_BYTES = 1000  # first bytes of a page, which hold it
Summary = Mapping[str, JsonValue]  # of a step's run.json
_STEPS = (
    "data", "detector", "sam", "trust", "masks_from_truth", "masks_from_detector", "classifier",
    "segmenter", "labeller", "labels",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReportResult(StageResult):
    """Where the report is. size_kb: of the page, with its pictures."""

    report: Path
    size_kb: int


def report(run: Path, output: Path | None = None) -> ReportResult:
    """Write `report.html` for the folder that `pipeline run` wrote. Pictures are inside the page.

    Raises DataError when the folder holds no finished step.
    """
    steps = {name: _summary(run / name) for name in _STEPS}
    evaluations = {
        name: _summary(run / f"evaluation_{name}") for name in ("truth_boxes", "detector_boxes")
    }
    if not any(steps.values()):
        raise DataError(run, "holds no finished step", "give the folder that `pipeline run` wrote")
    target = output or run / "report.html"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape()
    )
    environment.filters["percent"] = _percent
    shown = {
        "title": run.resolve().name,
        "steps": steps,
        "evaluations": evaluations,
        "pictures": _pictures(run),
        "gallery": _gallery(run, run / "evaluation_truth_boxes" / "gallery"),
        "samples": _samples(run, run / "masks_from_detector" / "overlays"),
        "label_samples": _samples(run, run / "labels" / "overlays", 9),
        "label_review": _link(run / "labels" / "review.html", target),
        "review": _link(run / "masks_from_detector" / "review.html", target),
        "anomalies": _anomalies(run),
        "comparison": _summary(run / "comparison"),
        "heats": _heatmaps(run),
        "versions": _versions(run),
    }
    try:
        page = environment.get_template("report.html").render(shown)
    except (UndefinedError, TypeError, ValueError, AttributeError, KeyError) as error:
        reason = f"a run.json in it lacks what the report shows ({error})"
        raise DataError(run, reason, "run the step again") from error
    _refuse_to_overwrite(target)
    write_text(target, page)
    return ReportResult(report=target, size_kb=len(page) // 1024)


def _refuse_to_overwrite(target: Path) -> None:
    """Raise DataError for a file that is there and is no report of this command."""
    if target.exists() and _GENERATOR not in read_bytes(target)[:_HEAD_BYTES]:
        raise DataError(target, "is there and is not a report", "choose another --output")


def _summary(folder: Path) -> Summary | None:
    if not (folder / RUN_FILE).is_file():
        return None
    return read_run_file(folder).summary


def _anomalies(run: Path) -> dict[str, Summary]:
    """The summary of each model of good images that was tested, by its name."""
    rows = {path.name.removeprefix("anomaly_"): _summary(path) for path in run.glob("anomaly_*")}
    return {name: row for name, row in sorted(rows.items()) if row and row.get("at_threshold")}


def _heatmaps(run: Path) -> list[str]:
    """Heat maps of the model with the highest AUPRO, on its test images."""
    models = _anomalies(run)
    if not models:
        return []
    best = max(models, key=lambda name: _number(models[name].get("aupro")))
    return _samples(run, run / f"anomaly_{best}" / "overlays")


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


@dataclass(frozen=True)
class StepVersions:
    """What one step ran with, as the report shows it."""

    step: str
    seconds: float
    weights: str
    versions: str
    commit: str


def _versions(run: Path) -> list[StepVersions]:
    """The versions of each step, from its run.json."""
    rows = []
    for path in sorted(run.glob(f"*/{RUN_FILE}")):
        record = read_run_file(path.parent)
        weights = ", ".join(f"{name} {sha256[:12]}" for name, sha256 in record.weights.items())
        versions = ", ".join(f"{name} {text}" for name, text in sorted(record.versions.items()))
        commit = record.git_commit[:12]
        rows.append(StepVersions(path.parent.name, record.seconds, weights, versions, commit))
    return rows


def _pictures(run: Path) -> dict[str, str]:
    paths = {
        "leaks": run / "data" / "leaks.png",
        "curves": run / "detector" / "curves.png",
        "confusion": run / "classifier" / "confusion.png",
        "truth_boxes": run / "evaluation_truth_boxes" / "mask_iou.png",
        "detector_boxes": run / "evaluation_detector_boxes" / "mask_iou.png",
        "tuned": run / "sam" / "mask_iou.png",
        "robustness": run / "sam" / "robustness.png",
        "reliability": run / "sam" / "reliability.png",
        "found": run / "trust" / "reliability_found.png",
        "held_out": run / "evaluation_detector_boxes" / "reliability.png",
        "labels_reliability": run / "labeller" / "reliability_found.png",
        "operating_points": run / "trust" / "operating_points.png",
        "comparison": run / "comparison" / "compare.png",
        "rejected": run / "comparison" / "rejected.png",
        "images": run / "stats" / "images_per_category.png",
        "sizes": run / "stats" / "instance_sizes.png",
    }
    return {name: _inline(run, path) for name, path in paths.items() if path.is_file()}


def _gallery(run: Path, folder: Path) -> dict[str, list[dict[str, str]]]:
    """Close-ups by rank; each file is called <rank>_<number>_<iou>_<category>.png."""
    rows: dict[str, list[dict[str, str]]] = {}
    for rank in ("best", "typical", "worst"):
        for path in sorted(folder.glob(f"{rank}_*.png")):
            _, _, iou, category = path.stem.split("_", 3)
            entry = {"picture": _inline(run, path), "iou": iou, "category": category}
            rows.setdefault(rank, []).append(entry)
    return rows


def _samples(run: Path, folder: Path, count: int = 6) -> list[str]:
    return [_inline(run, path) for path in sorted(folder.rglob("*.png"))[:count]]


def _link(path: Path, page: Path) -> str:
    """The link from the page to a file; empty without the file."""
    return os.path.relpath(path, page.parent) if path.is_file() else ""


def _inline(run: Path, path: Path) -> str:
    """A picture of the run as part of the page. Raises DataError for one that a link brings in from
    outside, and for what is no PNG."""
    data = read_bytes(path) if path.resolve().is_relative_to(run.resolve()) else b""
    if not data.startswith(_PNG):
        raise DataError(path, "is not a picture of the run", "run the step again")
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _percent(value: object) -> str:
    return "–" if not isinstance(value, (int, float)) else f"{100 * value:.1f} %"  # noqa: RUF001
