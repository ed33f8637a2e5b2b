"""ultralytics, kept from calling home: import it only through `load`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def load() -> Any:
    """Import ultralytics so that it neither installs, downloads, unpickles code nor prints.

    Its settings go to a folder of our own, with a font that matplotlib ships where it would
    otherwise fetch Arial.
    """
    folder = Path.home() / ".cache" / "defect-pipeline" / "ultralytics"
    settings = {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_VERBOSE": "False",
        "YOLO_CONFIG_DIR": str(folder),
        "ULTRALYTICS_SAFE_LOAD": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }
    for key, value in settings.items():
        os.environ.setdefault(key, value)
    home = Path(os.environ["YOLO_CONFIG_DIR"]) / "Ultralytics"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "Arial.ttf").exists():
        import matplotlib

        shutil.copyfile(
            Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf",
            home / "Arial.ttf",
        )
    import ultralytics

    return ultralytics
