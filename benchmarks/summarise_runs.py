"""Print the README's table from the folders that `pipeline run` wrote.

python benchmarks/summarise_runs.py runs/zipper_512 runs/transistor_1024 runs/magnetic_tile
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def summary(run: Path, step: str) -> dict[str, Any]:
    """What a step of the run measured."""
    found: dict[str, Any] = json.loads((run / step / "run.json").read_text())["summary"]
    return found


def row(run: Path) -> list[str]:
    """One line of the table."""
    detector, classifier = summary(run, "detector"), summary(run, "classifier")
    known, found = (summary(run, f"evaluation_{name}_boxes") for name in ("truth", "detector"))
    low, high = classifier["accuracy_interval"]
    sam_low, sam_high = known["mask_iou_interval"]
    return [
        run.name,
        f"{detector['held_out']['images']} / {detector['held_out']['instances']}",
        f"{detector['zero_shot']['box_ap50']:.3f} → {detector['tuned']['box_ap50']:.3f}",
        f"{detector['tuned']['box_ap']:.3f}",
        f"{known['mask_iou']:.3f} ({sam_low:.3f}-{sam_high:.3f})",
        f"{known['baselines']['box_fill']['mask_iou']:.3f}",
        f"{known['baselines']['grabcut']['mask_iou']:.3f}",
        f"{found['matched']} of {found['objects']}",
        " / ".join(
            "-" if value is None else f"{value:.3f}"
            for value in (
                found["mask_iou"],
                found["baselines"]["box_fill"]["mask_iou"],
                found["baselines"]["grabcut"]["mask_iou"],
            )
        ),
        f"{classifier['right']}/{classifier['tested_on']} = {classifier['accuracy']:.2f} "
        f"({low:.2f}-{high:.2f})",
    ]


def main() -> None:
    """Print a Markdown table, a line per run."""
    head = [
        "set", "held-out images / defects", "box AP50, zero-shot → tuned", "AP50-95",
        "SAM mask IoU, true boxes (95 %)", "box-fill", "GrabCut", "defects found",
        "IoU with found boxes: SAM / box-fill / GrabCut", "classifier accuracy (95 %)",
    ]  # fmt: skip
    for cells in (head, ["---"] * len(head), *(row(Path(name)) for name in sys.argv[1:])):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
