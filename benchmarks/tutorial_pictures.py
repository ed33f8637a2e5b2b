"""Draw the tutorial's pictures from the folder in which its commands were called.

python benchmarks/tutorial_pictures.py FOLDER docs
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from gallery import strip

from pipeline.io.images import write_png

DEFECTS = ("split_teeth", "fabric_border", "broken_teeth", "fabric_interior")
SIDE = 220  # pixels of each photo
CLOSE_UPS = 6


def rows(*folders: list[Path]) -> np.ndarray:
    """One row of photos for each list of files."""
    return np.vstack([strip(paths, SIDE) for paths in folders]).astype(np.uint8)


def close_ups(gallery: Path) -> np.ndarray:
    """The best, typical and worst masks beside each other, two of each."""
    paths = [sorted(gallery.glob(f"{rank}_*"))[:2] for rank in ("best", "typical", "worst")]
    side = SIDE * len(DEFECTS) // CLOSE_UPS
    return strip([path for pair in paths for path in pair], side)


def main() -> None:
    """Photos over their masks; heat maps over pre-labels; close-ups of the tuned SAM's masks."""
    work, target = Path(sys.argv[1]), Path(sys.argv[2])
    product = work / "zipper"
    photos = [product / "test" / name / "000.png" for name in DEFECTS]
    masks = [product / "ground_truth" / name / "000_mask.png" for name in DEFECTS]
    heat = [work / "patchcore" / "overlays" / f"zipper_test_{name}_000.png" for name in DEFECTS]
    labels = [work / "prelabels" / "overlays" / name / "000.png" for name in DEFECTS]
    pictures = {
        "tutorial_photos": rows(photos, masks),
        "tutorial_prelabels": rows(heat, labels),
        "tutorial_masks": close_ups(work / "figures" / "gallery"),
    }
    for name, picture in pictures.items():
        write_png(target / f"{name}.png", picture)


if __name__ == "__main__":
    main()
