"""Whether the training in a folder is finished, or goes on."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import WeightsError
from pipeline.io.write import remove_tree
from pipeline.models.yolo_world.trainer import epochs_done
from pipeline.models.yolo_world.training_state import state_file
from pipeline.runtime.progress import say


def is_trained(folder: Path, epochs: int, overwrite: bool) -> bool:
    """Whether the training in a folder is finished. A training that cannot go on is deleted:
    one without a whole epoch, and with `overwrite` one whose files are damaged."""
    try:
        done = epochs_done(folder)
    except WeightsError:
        if not overwrite:
            raise
        done = 0
    if done:
        say(f"the stopped training goes on after epoch {done} of {epochs}")
    elif done == 0:
        remove_tree(folder / "train")
        state_file(folder).unlink(missing_ok=True)
    return done is None
