"""Draw the README's picture from a run: drawn zippers above, close-ups of their masks below.

python benchmarks/gallery.py runs/default docs/gallery.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from pipeline.io.images import read_image, write_png


def strip(paths: list[Path], side: int) -> np.ndarray:
    """Square pictures side by side."""
    pictures = [
        cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA) for path in paths
    ]
    return np.hstack(pictures).astype(np.uint8)


def main() -> None:
    """Four labelled zippers over three best, three typical and two worst close-ups."""
    run, target = Path(sys.argv[1]), Path(sys.argv[2])
    overlays = sorted((run / "masks_from_truth" / "overlays").rglob("*_000.png"))
    overlays += sorted((run / "masks_from_truth" / "overlays").rglob("*.png"))
    gallery = run / "evaluation_truth_boxes" / "gallery"
    close_ups = [
        *sorted(gallery.glob("best_*"))[:3],
        *sorted(gallery.glob("typical_*"))[:3],
        *sorted(gallery.glob("worst_*"))[:2],
    ]
    overlay_of: dict[str, Path] = {}
    for path in overlays:
        overlay_of.setdefault("_".join(path.stem.split("_")[2:-1]), path)
    categories = ("split_teeth", "fabric_border", "broken_teeth", "fabric_interior")
    upper = strip([overlay_of[category] for category in categories if category in overlay_of], 360)
    lower = strip(close_ups, upper.shape[1] // len(close_ups))
    lower = cv2.resize(lower, (upper.shape[1], lower.shape[0]))
    write_png(target, np.vstack([upper, lower]).astype(np.uint8))


if __name__ == "__main__":
    main()
