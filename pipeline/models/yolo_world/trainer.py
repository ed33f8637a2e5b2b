"""Fine-tuning of YOLO-World: ultralytics' trainer, with our own text embeddings.

The stock trainer runs CLIP in two places, and downloads it for that. Both are replaced here: each
category keeps its vector from the run's file. Label caches are neither read nor written, because
ultralytics unpickles them. Importing this module imports ultralytics.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from pipeline.errors import ConfigError, WeightsError
from pipeline.models import ultralytics_offline
from pipeline.models.devices import same_threads
from pipeline.models.text.embeddings import TextEmbeddings
from pipeline.models.yolo_world import precision
from pipeline.models.yolo_world.detector import embeddings_file, set_categories
from pipeline.models.yolo_world.options import TrainingOptions, ultralytics_settings
from pipeline.models.yolo_world.training_state import (
    load_state,
    repeat_reading,
    restore,
    save_state,
)
from pipeline.runtime import signals
from pipeline.runtime.progress import Bar, set_quiet
from pipeline.runtime.threads import working_threads

ultralytics_offline.load()

from ultralytics.data import dataset as stock_data  # noqa: E402
from ultralytics.engine import trainer as stock_engine  # noqa: E402
from ultralytics.models.yolo.detect import train as stock_training  # noqa: E402
from ultralytics.models.yolo.detect import val as stock_validation  # noqa: E402
from ultralytics.models.yolo.world import train as stock  # noqa: E402
from ultralytics.utils.plotting import plot_images  # noqa: E402
from ultralytics.utils.torch_utils import strip_optimizer  # noqa: E402

_NOT_FROM_TEXT = ("Lambda", "BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D")


def _no_cache(path: Path) -> None:
    raise FileNotFoundError(path)


def _not_saved(prefix: str, path: Path, x: dict[str, str], version: str) -> None:
    del prefix, path
    x["version"] = version  # the caller takes it off again


def _keep(*_: object, **__: object) -> dict[str, str]:
    return {}


stock_data.load_dataset_cache_file = _no_cache  # type: ignore[attr-defined, assignment]
stock_data.save_dataset_cache_file = _not_saved  # type: ignore[attr-defined]
# Without threads: two that draw the same picture finish in any order, and a late one changes a file
# that the manifest has already listed.
_draw = partial(plot_images, threaded=False)
stock_training.plot_images = stock_validation.plot_images = _draw  # type: ignore[attr-defined]
# `_finish` strips the checkpoints, after everything else
stock_engine.strip_optimizer = _keep  # type: ignore[attr-defined]
stock_engine.autocast = precision.autocast  # type: ignore[attr-defined]


class DefectTrainer(stock.WorldTrainer):
    """WorldTrainer that reads its embeddings from `save_dir/../text_embeddings.safetensors`.

    From a file, because ultralytics starts a process for each GPU and passes it only ultralytics'
    own settings. The other methods override ultralytics' and so keep their names.
    """

    def embeddings(self) -> TextEmbeddings:
        """The run's embeddings, in label order."""
        return TextEmbeddings.load(embeddings_file(Path(self.save_dir).parent))

    def get_dataset(self) -> Any:
        """ultralytics' description of the data set, with the run's one name for merged classes."""
        data: Any = super().get_dataset()  # type: ignore[no-untyped-call]
        if self.args.single_cls:
            data["names"] = dict(enumerate(self.embeddings().categories))
        return data

    def check_resume(self, overrides: Mapping[str, Any]) -> None:
        """Never resume the stock way: it takes settings, also the paths to write to, from a
        checkpoint."""
        del overrides
        self.resume = False

    def resume_training(self, ckpt: Any) -> None:
        """Go on from the state that `training_state` saved of this run, if there is one."""
        del ckpt
        state = load_state(Path(self.save_dir).parent)
        if state is None:
            return
        restore(self, state)
        closing = self.args.close_mosaic

        def read_again(trainer: Any) -> None:
            repeat_reading(trainer, state)

        def set_back(trainer: Any) -> None:
            trainer.args.close_mosaic = closing

        self.callbacks["on_train_start"].insert(0, read_again)  # before the progress bar
        self.add_callback("on_train_epoch_start", set_back)

    def save_model(self) -> Any:
        """Write the checkpoints, each whole or not at all, and then the state to go on from: a kill
        in between repeats an epoch and loses none. After the last epoch, the state of the epoch
        before stays, so that a kill during the last validation repeats that too."""
        last, best = self.last, self.best
        parts = {best.with_name("best.part"): best, last.with_name("last.part"): last}
        self.best, self.last = parts
        try:
            saved = super().save_model()  # type: ignore[no-untyped-call]
        finally:
            self.last, self.best = last, best
        for part, target in parts.items():
            if part.exists():
                part.replace(target)
        if not self.stop:
            save_state(Path(self.save_dir).parent, self)
        return saved

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch, whose images have their channels last on a CPU: its convolutions are faster
        then."""
        prepared: dict[str, Any] = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            prepared["img"] = prepared["img"].contiguous(memory_format=torch.channels_last)
        return prepared

    def generate_text_embeddings(
        self, texts: list[str], batch: int, cache_dir: Path
    ) -> dict[str, torch.Tensor]:
        """{category name: (512,) vector} on the trainer's device."""
        del texts, batch, cache_dir
        embeddings = self.embeddings()
        vectors = torch.from_numpy(embeddings.vectors).to(self.device)
        return {
            name.split("/", 1)[0]: vector
            for name, vector in zip(embeddings.categories, vectors, strict=True)
        } | dict(zip(embeddings.categories, vectors, strict=True))

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """The network, without the stock callback that would run CLIP."""
        model = super().get_model(cfg, weights, verbose)
        callbacks = self.callbacks["on_pretrain_routine_end"]
        self.callbacks["on_pretrain_routine_end"] = [
            call for call in callbacks if call is not stock.on_pretrain_routine_end
        ]
        if _set_ema_categories not in self.callbacks["on_pretrain_routine_end"]:
            self.add_callback("on_pretrain_routine_end", _set_ema_categories)
        return model


def _set_ema_categories(trainer: Any) -> None:
    """Set the categories of the averaged network, which is the one that is validated and saved."""
    set_categories(trainer.ema.ema, trainer.embeddings())


class _Bar:
    """One live bar over all epochs, with the loss and the best box AP50 so far."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.best = 0.0

    def on_train_start(self, trainer: Any) -> None:
        if trainer.device.type == "cpu":  # ultralytics leaves a core idle: 1.8x slower on two
            torch.set_num_threads(working_threads())
            trainer.model.to(memory_format=torch.channels_last)
            loss = trainer.model.init_criterion()
            trainer.model.criterion = precision.SinglePrecisionLoss(loss)
        batches = len(trainer.train_loader)
        if int(os.environ.get("RANK", "0")) > 0:
            set_quiet(True)  # one bar for all GPUs
        total, done = trainer.epochs * batches, trainer.start_epoch * batches
        self.bar = Bar("fine-tune, batches", total, done)

    def on_train_batch_end(self, trainer: Any) -> None:
        loss = sum(float(value) for value in trainer.tloss.values())
        self.bar.note(f"loss {loss:.2f}, best AP50 {self.best:.3f}")
        self.bar.update()

    def on_fit_epoch_end(self, trainer: Any) -> None:
        self.best = max(self.best, float(trainer.metrics.get("metrics/mAP50(B)", 0.0)))

    def on_train_end(self, trainer: Any) -> None:
        del trainer
        self.bar.close()

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        names = ("on_train_start", "on_train_batch_end", "on_fit_epoch_end", "on_train_end")
        return {name: getattr(self, name) for name in names}


def train(run: Path, data: Path, weights: Path, options: TrainingOptions, device: str) -> None:
    """Train in `run/train`, or go on with the training there. See `ultralytics_settings`.

    Raises ConfigError for a transform that albumentations does not have, WeightsError for a damaged
    checkpoint.
    """
    settings = ultralytics_settings(options, run, data, weights, device)
    transforms = [_transform(entry) for entry in options.augmentations]
    with same_threads():
        trainer = DefectTrainer(overrides={**settings, "augmentations": transforms})
        for event, call in _Bar().callbacks().items():
            trainer.add_callback(event, call)
        trainer.train()
    signals.check()  # other libraries may swallow a signal and leave half a file
    _finish(trainer.last, trainer.best)


def _finish(last: Path, best: Path) -> None:
    """Strip both checkpoints to what a detector needs. A stripped `last` marks a finished training,
    so it is written last. Raises WeightsError for a damaged checkpoint."""
    part, rows = _stripped(last)
    if best.is_file():
        _stripped(best, {"train_results": rows})[0].replace(best)
    part.replace(last)


def _stripped(checkpoint: Path, updates: Mapping[str, Any] | None = None) -> tuple[Path, Any]:
    """A stripped copy of a checkpoint, and the training log in it."""
    part = checkpoint.with_suffix(".part")
    part.unlink(missing_ok=True)
    try:
        stripped = strip_optimizer(checkpoint, s=str(part), updates=dict(updates or {}))
    except Exception as error:  # strange content can raise anything
        raise _damaged(checkpoint) from error
    if not part.is_file():
        raise _damaged(checkpoint)
    return part, stripped.get("train_results")


def epochs_done(run: Path) -> int | None:
    """Finished epochs of the training in a run's folder; None for a finished training, whose
    `last.pt` is stripped.

    Raises WeightsError for a damaged file, and for one that no such training wrote.
    """
    from ultralytics.nn.tasks import torch_safe_load

    last = run / "train" / "weights" / "last.pt"
    if not last.is_file():
        return 0
    try:
        checkpoint, _ = torch_safe_load(str(last), safe_only=True)
        epoch = int(checkpoint["epoch"])
        whole = hasattr(checkpoint["model" if epoch == -1 else "ema"], "state_dict")
    except Exception as error:  # a damaged pickle can raise anything
        raise _damaged(last) from error
    if not whole or epoch < -1:
        raise _damaged(last)
    if epoch == -1:
        return None
    state = load_state(run)
    return state["epoch"] + 1 if state else 0


def _damaged(last: Path) -> WeightsError:
    return WeightsError(
        f"{last}: is damaged; training cannot go on from it; start from the beginning with "
        "--overwrite"
    )


def _transform(entry: Mapping[str, JsonValue]) -> Any:
    """The transform with a name and arguments. Other names of albumentations' module, such as its
    loaders of files and code, are refused."""
    import albumentations

    arguments = dict(entry)
    name = arguments.pop("name")
    kind = getattr(albumentations, str(name), None)
    if not isinstance(kind, type) or not issubclass(kind, albumentations.BasicTransform):
        raise ConfigError(f"augmentations: albumentations has no transform {name!r}")
    if name in _NOT_FROM_TEXT:
        raise ConfigError(f"augmentations: {name} cannot be described in a configuration")
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"augmentations: {name}: {error}") from error
