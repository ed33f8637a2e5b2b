"""The full state of an ultralytics training after an epoch. A stopped training that continues from
it ends with the same bytes as one that was not stopped.

The checkpoints of ultralytics hold weights rounded to 16 bits and no random state, so this module
saves the rest. The random state of the data loader's workers cannot be saved: `repeat_reading`
reads the batches of the finished epochs again, without training on them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch

from pipeline.errors import DataError, WeightsError
from pipeline.io.manifest import WORK
from pipeline.models.checkpoint import read_checkpoint, write_checkpoint
from pipeline.runtime.progress import Bar


class RandomState(TypedDict):
    """The state of each random generator, as it gives it. cuda: of each GPU."""

    python: Any  # a tuple of one form in each version of Python
    numpy: tuple[str, list[int], int, int, float]
    torch: torch.Tensor
    cuda: list[torch.Tensor]


class State(TypedDict):
    """A training after an epoch. model, average, optimizer, scaler: torch's `state_dict`. updates:
    of the average. stopper: the best fitness and its epoch. log: ultralytics' table of epochs."""

    epoch: int
    model: Any  # torch's `state_dict` is of no one type
    average: Any
    updates: int
    optimizer: Any
    scaler: Any
    best_fitness: float | None
    stopper: tuple[float | None, int]
    log: str
    random: RandomState


def state_file(run: Path) -> Path:
    """The state file of the training in a run's folder."""
    return run / WORK / "training.bin"


def save_state(run: Path, trainer: Any) -> None:
    """Save the state of an ultralytics trainer at the end of an epoch. Raises DataError when the
    system refuses."""
    stopper, log = trainer.stopper, Path(trainer.csv)
    state: State = {
        "epoch": trainer.epoch,
        "model": _network(trainer).state_dict(),
        "average": trainer.ema.ema.state_dict(),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "best_fitness": _plain(trainer.best_fitness),
        "stopper": (_plain(stopper.best_fitness), int(stopper.best_epoch)),
        "log": log.read_text(encoding="utf-8"),
        "random": _random_state(),
    }
    write_checkpoint(state_file(run), state)


def load_state(run: Path) -> State | None:
    """The state that `save_state` wrote; None if there is none. Raises WeightsError for a file that
    is damaged or of another version."""
    path = state_file(run)
    if not path.is_file():
        return None
    try:
        state = read_checkpoint(path)
        if state.keys() != State.__required_keys__ or not isinstance(state["epoch"], int):
            raise ValueError("its keys are others")
    except DataError:
        raise
    except Exception as error:  # torch raises many types for a damaged file
        remedy = "training cannot go on from it; start from the beginning with --overwrite"
        problem = "is damaged or of another version"
        raise WeightsError(f"{path}: {problem}; {remedy}") from error
    return cast(State, state)


def restore(trainer: Any, state: State) -> None:
    """Set a trainer, after its set-up, to the state at the end of the saved epoch."""
    _network(trainer).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["average"])
    trainer.ema.updates = state["updates"]
    groups = zip(state["optimizer"]["param_groups"], trainer.optimizer.param_groups, strict=True)
    for saved, group in groups:
        saved["fused"] = group.get("fused")  # depends on the device
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    trainer.best_fitness = state["best_fitness"]
    trainer.stopper.best_fitness, trainer.stopper.best_epoch = state["stopper"]
    trainer.start_epoch = state["epoch"] + 1
    if _is_first_process():
        Path(trainer.csv).write_text(state["log"], encoding="utf-8")


def repeat_reading(trainer: Any, state: State) -> None:
    """Read the batches of the finished epochs again, before the training loop starts, then restore
    the random state of this process."""
    loader, args = trainer.train_loader, trainer.args
    closes = trainer.epochs - args.close_mosaic if args.close_mosaic else trainer.epochs
    with Bar("read again, batches", trainer.start_epoch * len(loader)) as bar:
        for epoch in range(trainer.start_epoch):
            if epoch == closes:
                trainer._close_dataloader_mosaic()
                loader.reset()
                args.close_mosaic = 0  # or the loop does it a second time
            for _ in loader:
                bar.update()
    if _is_first_process():
        _set_random_state(state["random"])


def _network(trainer: Any) -> Any:
    from ultralytics.utils.torch_utils import unwrap_model

    return unwrap_model(trainer.model)


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", "-1")) < 1


def _random_state() -> RandomState:
    kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)
    numbers = int(place), int(has_gauss), float(gauss)
    return {
        "python": random.getstate(),
        "numpy": (str(kind), [int(key) for key in keys], *numbers),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: RandomState) -> None:
    random.setstate(state["python"])
    kind, keys, place, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), place, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _plain(value: Any) -> float | None:
    return None if value is None else float(value)
