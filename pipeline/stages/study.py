"""`pipeline study`: several classifiers on the same repeated folds, in one table.

The study that this pipeline grew from compared four by 16 images each, too few to tell them apart.
Here every image is tested on once a repeat, and a paired test says which differences are real.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, TypeAdapter
from typing_extensions import TypedDict

from pipeline.config.schema import ClassifyConfig, StudyConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.products import image_categories, read_product
from pipeline.io.images import read_image
from pipeline.io.run_record import RunRecord
from pipeline.io.work_log import LOG, WorkLog
from pipeline.io.write import write_json, write_text
from pipeline.metrics.classification import classification
from pipeline.metrics.intervals import bootstrap_mean, wilson
from pipeline.metrics.paired import corrected_t_test, holm, shots
from pipeline.runtime.progress import track
from pipeline.splits import folds
from pipeline.types import ImageRecord
from pipeline.visualization.plots import intervals

_REAL = 0.05  # p below which a difference is called real


class Answers(TypedDict):
    """A fold's answers, a label an image, and the weights that the classifier started from."""

    labels: Annotated[list[NonNegativeInt], Field(min_length=1)]
    weights: str


AnswersLog = WorkLog[Answers]


@dataclass(frozen=True)
class Fold:
    """Rows to learn from and rows to test on."""

    name: str
    learned: NDArray[np.int64]
    held: NDArray[np.int64]


def study(
    data: Path,
    output: Path,
    config: StudyConfig,
    device: str,
    keep_going: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Try every experiment on `repeats` times `folds` parts of a product's images.

    Writes the answers, figures, a Markdown table and a plot. A call that was stopped is taken up by
    the same call. Raises DataError for kinds with too few images, WeightsError.
    """
    faults = Faults(keep_going)
    settings = config.model_dump(mode="json")
    record = RunRecord("study", settings, [data])
    listed = read_product(
        data, faults, config.group_by, config.good_limit, allow_outside=config.allow_outside
    )
    categories = image_categories(listed)
    records = list(listed.records)
    labels = np.array([categories.index(r.defect) for r in records], np.int64)
    with record.resumable_folder(output, overwrite) as folder:
        if done := record.finished(folder):
            return done
        parts = list(_folds(records, labels, config))
        with WorkLog(folder / LOG, "folds", TypeAdapter(Answers)) as log:
            said = {
                name: _tried(name, chosen, parts, records, labels, categories, device, log)
                for name, chosen in config.experiments.items()
            }
        write_json(
            folder / "answers.json",
            {
                name: {k: v.tolist() for k, v in tried["said"].items()}
                for name, tried in said.items()
            },
        )
        rows = {
            name: _row(config.experiments[name], said[name], parts, labels, categories, records)
            for name in said
        }
        counts = [np.bincount(labels[part.learned], minlength=len(categories)) for part in parts]
        if config.long_tail:
            for name, row in rows.items():
                row["by_shots"] = _by_shots(said[name], parts, labels, categories, counts, config)
        summary = {
            "output": str(output),
            "images": len(records),
            "learned_from": {
                name: round(float(np.mean([count[n] for count in counts])), 1)
                for n, name in enumerate(categories)
            },
            "folds": config.folds,
            "repeats": config.repeats,
            "experiments": rows,
            "differences": _differences(said, parts, labels),
            "faults": [str(error) for error in faults.found],
        }
        write_text(folder / "table.md", table(summary))
        intervals(
            folder / "study.png",
            "accuracy, 95 %",
            {name: (row["accuracy"], *row["accuracy_interval"]) for name, row in rows.items()},
            {n: e.published for n, e in config.experiments.items() if e.published is not None},
        )
        record.write(folder, summary)
    return summary


def table(summary: Mapping[str, Any]) -> str:
    """A Markdown table, a row for each experiment, and what the paired tests say."""
    tail = any("by_shots" in row for row in summary["experiments"].values())
    head = ["experiment", "weights", "published", "accuracy (95 %, Wilson)", "(bootstrap)"]
    head += ["macro F1", *(["many / medium / few-shot"] if tail else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in summary["experiments"].items():
        low, high = row["accuracy_interval"]
        low2, high2 = row["accuracy_bootstrap"]
        published = "-" if row["published"] is None else f"{row['published']:.4f}"
        cells = [name, row["weights"], published, f"{row['accuracy']:.3f} ({low:.3f}-{high:.3f})"]
        cells += [f"({low2:.3f}-{high2:.3f})", f"{row['macro_f1']:.3f}"]
        if tail:
            shares = (row["by_shots"].get(kind) for kind in ("many", "medium", "few"))
            cells.append(" / ".join("-" if s is None else f"{s:.3f}" for s in shares))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| difference | accuracy | p (Holm) | real? |", "|---|---|---|---|"]
    for name, row in summary["differences"].items():
        real = "yes" if row["real"] else "no"
        lines.append(f"| {name} | {row['accuracy']:+.3f} | {row['p']:.3f} | {real} |")
    return "\n".join(lines) + "\n"


def _folds(
    records: Sequence[ImageRecord], labels: NDArray[np.int64], config: StudyConfig
) -> Iterator[Fold]:
    """Each repeat deals all images anew; with `long_tail`, kinds learn from falling numbers."""
    for repeat in range(config.repeats):
        dealt = folds(records, config.folds, config.seed + repeat)
        of = np.array([dealt[record.group] for record in records])
        for fold in range(config.folds):
            learned, held = np.flatnonzero(of != fold), np.flatnonzero(of == fold)
            if config.long_tail:
                learned = _thinned(learned, labels, config.long_tail, config.seed + repeat)
            if not len(held) or not len(learned):
                raise DataError(Path(), "has too few images for so many folds", "ask for fewer")
            yield Fold(f"{repeat}_{fold}", learned, held)


def _thinned(
    rows: NDArray[np.int64], labels: NDArray[np.int64], tail: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    """Rows so that the commonest kind keeps `tail[0]`, the rarest `tail[1]`, and those between
    numbers that fall evenly on a logarithmic scale."""
    counts = Counter(labels[rows].tolist())
    order = sorted(counts, key=lambda label: (-counts[label], label))
    wanted = np.geomspace(tail[0], tail[1], max(len(order), 1))
    generator = np.random.default_rng(seed)
    kept = []
    for label, count in zip(order, wanted, strict=True):
        own = rows[labels[rows] == label]
        kept.append(generator.permutation(own)[: max(round(count), 1)])
    return np.sort(np.concatenate(kept))


def _tried(
    name: str,
    chosen: ClassifyConfig,
    parts: Sequence[Fold],
    records: Sequence[ImageRecord],
    labels: NDArray[np.int64],
    categories: tuple[str, ...],
    device: str,
    log: AnswersLog,
) -> dict[str, Any]:
    """Each fold's answers, from the log where they are there; `weights` says what it started
    from."""
    from pipeline.models.classifier.cross_validation import HeadTrials, recipe_of
    from pipeline.models.devices import torch_device

    found = {part.name: _kept(log, f"{name} {part.name}", part, len(categories)) for part in parts}
    if not all(found.values()):
        recipe = recipe_of(categories, torch_device(device), **chosen.model_dump(mode="json"))
        trials = HeadTrials(
            recipe, lambda: (read_image(r.path) for r in track(records, "features"))
        )
        for part in track(parts, name):
            if not found[part.name]:
                said = trials.answers(part.learned, labels[part.learned], part.held)
                row = Answers(labels=said.tolist(), weights=recipe.origin)
                log.add(f"{name} {part.name}", row)
                found[part.name] = row
    rows = {key: value for key, value in found.items() if value}
    answers = {key: np.array(value["labels"], np.int64) for key, value in rows.items()}
    return {"said": answers, "weights": next(iter(rows.values()))["weights"]}


def _kept(log: AnswersLog, key: str, part: Fold, categories: int) -> Answers | None:
    """The answers that an earlier call gave to a fold, None for any others."""
    kept = log.get(key)
    fits = kept and len(kept["labels"]) == len(part.held)
    return kept if kept and fits and max(kept["labels"]) < categories else None


def _right(
    tried: Mapping[str, Any], parts: Sequence[Fold], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N,): in how many repeats' share each image was named rightly."""
    right, times = np.zeros(len(labels)), np.zeros(len(labels))
    for part in parts:
        right[part.held] += tried["said"][part.name] == labels[part.held]
        times[part.held] += 1
    return right / np.maximum(times, 1)


def _row(
    chosen: Any,
    tried: Mapping[str, Any],
    parts: Sequence[Fold],
    labels: NDArray[np.int64],
    categories: Sequence[str],
    records: Sequence[ImageRecord],
) -> dict[str, Any]:
    right = _right(tried, parts, labels)
    truth = np.concatenate([labels[part.held] for part in parts])
    said = np.concatenate([tried["said"][part.name] for part in parts])
    figures = classification(truth, said, len(categories))
    low, high = wilson(round(float(right.sum())), len(right))
    low2, high2 = bootstrap_mean(right.tolist(), groups=[record.group for record in records])
    return {
        "backbone": chosen.backbone,
        "weights": tried["weights"],
        "published": chosen.published,
        "accuracy": round(float(right.mean()), 4),
        "accuracy_interval": [round(low, 4), round(high, 4)],
        "accuracy_bootstrap": [round(low2, 4), round(high2, 4)],
        "macro_f1": round(figures.macro_f1, 4),
    }


def _by_shots(
    tried: Mapping[str, Any],
    parts: Sequence[Fold],
    labels: NDArray[np.int64],
    categories: Sequence[str],
    counts: Sequence[NDArray[np.int64]],
    config: StudyConfig,
) -> dict[str, float]:
    """Mean recall of the categories with many, medium and few images to learn from."""
    means = {name: int(np.mean([c[n] for c in counts])) for n, name in enumerate(categories)}
    group_of = shots(means, *config.shots)
    truth = np.concatenate([labels[part.held] for part in parts])
    said = np.concatenate([tried["said"][part.name] for part in parts])
    recalls: dict[str, list[float]] = {}
    for n, name in enumerate(categories):
        if (truth == n).any():
            recalls.setdefault(group_of[name], []).append(float((said[truth == n] == n).mean()))
    return {name: round(float(np.mean(values)), 4) for name, values in recalls.items()}


def _differences(
    said: Mapping[str, Mapping[str, Any]], parts: Sequence[Fold], labels: NDArray[np.int64]
) -> dict[str, dict[str, Any]]:
    """Of each pair, the later less the earlier: accuracy, p by Holm, and whether it is real."""
    accuracies = {
        name: [float((tried["said"][p.name] == labels[p.held]).mean()) for p in parts]
        for name, tried in said.items()
    }
    share = float(np.mean([len(p.held) / len(labels) for p in parts]))
    raw, means = {}, {}
    for first, second in combinations(accuracies, 2):
        gaps = np.subtract(accuracies[second], accuracies[first]).tolist()
        raw[f"{second} - {first}"] = corrected_t_test(gaps, share)
        means[f"{second} - {first}"] = float(np.mean(gaps))
    return {
        name: {"accuracy": round(means[name], 4), "p": round(p, 4), "real": p < _REAL}
        for name, p in holm(raw).items()
    }
