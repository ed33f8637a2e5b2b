"""Print the tables of docs/results/real-images.md, labels-and-quality.md and labels.md from the
folders that `pipeline run` wrote.

python benchmarks/summarise_runs.py runs/zipper_512 runs/transistor_1024 runs/magnetic_tile
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.formats.coco import read_coco
from pipeline.metrics.label_quality import LabelQuality, compare_labels, label_quality


def summary(run: Path, step: str) -> dict[str, Any]:
    """The summary of a step's run.json."""
    measured: dict[str, Any] = json.loads((run / step / "run.json").read_text())["summary"]
    return measured


def row(run: Path) -> list[str]:
    """One line of the table."""
    detector, classifier, sam = (summary(run, name) for name in ("detector", "classifier", "sam"))
    detected = summary(run, "evaluation_detector_boxes")
    scores = sam["test"]["segmenters"]
    low, high = classifier["accuracy_interval"]
    baselines = detected.get("baselines", {})  # absent where the detector matches nothing
    measured = (detected, *(baselines.get(name, {}) for name in ("box_fill", "grabcut")))
    ious = [figures.get("mask_iou") for figures in measured]
    return [
        run.name,
        f"{detector['held_out']['images']} / {detector['held_out']['instances']}",
        f"{detector['zero_shot']['box_ap50']:.3f} → {detector['tuned']['box_ap50']:.3f}",
        f"{detector['tuned']['box_ap']:.3f}",
        *(_interval(scores[name]["mask_iou"]) for name in ("zero_shot", "tuned")),
        *(f"{scores[name]['mask_iou'][0]:.3f}" for name in ("mean_shape", "box_fill", "grabcut")),
        _interval(sam["test"]["gain_over"]["box_fill"]),
        _rank(sam.get("out_of_fold"), sam.get("out_of_fold", {}).get("masks")),
        _rank(sam["test"].get("expected_iou"), sam["held_out"]["masks"]),
        _rank(sam.get("unseen"), sam.get("unseen", {}).get("masks")),
        f"{detected['matched']} of {detected['objects']}",
        " / ".join("-" if value is None else f"{value:.3f}" for value in ious),
        f"{classifier['right']}/{classifier['tested_on']} = {classifier['accuracy']:.2f} "
        f"({low:.2f}-{high:.2f})",
        _patch_prior(sam["patch_prior"]),
    ]


def _patch_prior(use: dict[str, Any]) -> str:
    gain = use.get("gain_out_of_fold")
    text = "-" if gain is None else f"{gain:+.3f}"
    return text if use["used"] else f"not used ({text})"


def _rank(score: dict[str, Any] | None, masks: int | None) -> str:
    """How the expected IoU ranks so many masks."""
    if not score or masks is None or not (rank := score.get("rank_of_expected_iou")):
        return "-"
    return "{:.2f} ({:.2f}-{:.2f}), {}".format(*rank, masks)


def _interval(values: list[float]) -> str:
    mean, low, high = values
    return f"{mean:.3f} ({low:.3f}-{high:.3f})"


HEAD = [
    "set", "test images / defects", "box AP50, zero-shot → tuned", "AP50-95",
    "SAM as published", "SAM tuned", "mean shape", "box-fill", "GrabCut", "tuned over box-fill",
    "rank correlation, out-of-fold masks", "test masks", "both", "defects detected",
    "IoU from the detector's boxes: SAM tuned / box-fill / GrabCut",
    "classifier accuracy (95 %)", "patch prior, gain on out-of-fold masks",
]  # fmt: skip
TABLES = {
    "The detector and the classifier": (1, 2, 3, 13, 15),
    "SAM, from true boxes": (4, 5, 16, 6, 7, 8, 9),
    "How the expected IoU ranks masks": (10, 11, 12),
    "SAM, from the detector's boxes": (13, 14),
}


def label_table(run: Path) -> Iterator[str]:
    """How good the labels of a run are, defect by defect, as Markdown: of each way to make them."""
    head = (
        "labels",
        "label IoU",
        "right name",
        "found",
        "touched",
        "false labels an image",
        "pixel IoU",
    )
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    segmenter, labeller = summary(run, "segmenter"), summary(run, "labeller")
    named = {
        "segmenter, out of fold": segmenter.get("out_of_fold"),
        "segmenter, held-out photos": segmenter.get("test"),
        "labeller, out of fold": labeller.get("labels"),
        "labeller, held-out photos": summary(run, "labels").get("quality"),
        "detector and SAM, held-out photos": asdict(from_detector(run)),
    }
    for name, q in named.items():
        if q and q["label_iou"] is not None:
            low, high = q["label_iou_interval"]
            yield (
                f"| {name} | {q['label_iou']:.3f} ({low:.3f}-{high:.3f}) | "
                f"{q['named_label_iou']:.3f} | {q['found']} of {q['defects']} | {q['touched']} | "
                f"{q['false_labels']:.2f} | {q['pixel_iou']:.3f} |"
            )


def from_detector(run: Path) -> LabelQuality:
    """Of the masks that SAM makes of the detector's boxes on the held-out photos."""
    truth = read_coco(run / "data" / "annotations" / "instances_test.json")
    made = read_coco(run / "masks_from_detector" / "instances.json")
    records = {record.file_name: record for record in made.records}
    return label_quality(
        [
            compare_labels(
                truth.on(record), made.on(records[record.file_name]), truth.categories,
                record.group or record.file_name,
            )
            for record in truth.records
        ]
    )  # fmt: skip


def main() -> None:
    """Print Markdown tables, a line per run."""
    rows = [row(Path(name)) for name in sys.argv[1:]]
    for title, columns in TABLES.items():
        shown = (0, *columns)
        print(f"\n{title}\n")
        for cells in (HEAD, ["---"] * len(HEAD), *rows):
            print("| " + " | ".join(cells[column] for column in shown) + " |")
    for name in sys.argv[1:]:
        table = Path(name) / "comparison" / "table.md"
        if table.is_file():
            print(f"\nAll models of {Path(name).name}\n\n{table.read_text()}", end="")
        if (Path(name) / "labels").is_dir():
            print(f"\nLabels of {Path(name).name}, defect by defect\n")
            print("\n".join(label_table(Path(name))))


if __name__ == "__main__":
    main()
