"""Fine-tuning of YOLO-World: ultralytics' trainer, with text embeddings of our own.

Stock training asks CLIP for embeddings in two places, and CLIP asks the network. Both are replaced
here: each category keeps the vector from the run's file. Importing this module imports ultralytics.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pipeline.errors import ConfigError, WeightsError
from pipeline.models import ultralytics_offline
from pipeline.models.text_embeddings import TextEmbeddings
from pipeline.models.yolo_world import embeddings_file, speak
from pipeline.progress import is_quiet

ultralytics_offline.load()

from ultralytics.models.yolo.world import train as stock  # noqa: E402


class DefectTrainer(stock.WorldTrainer):
    """WorldTrainer that reads its embeddings from `save_dir/../text_embeddings.safetensors`.

    A file and not an argument, because ultralytics starts one process per GPU and hands each only
    its own settings.
    """

    def embeddings(self) -> TextEmbeddings:
        """The run's embeddings, in label order."""
        return TextEmbeddings.load(embeddings_file(Path(self.save_dir).parent))

    def get_dataset(self) -> Any:
        """ultralytics' description of the data set; merged classes go by the run's one name."""
        data: Any = super().get_dataset()  # type: ignore[no-untyped-call]
        if self.args.single_cls:
            data["names"] = dict(enumerate(self.embeddings().categories))
        return data

    def generate_text_embeddings(
        self, texts: list[str], batch: int, cache_dir: Path
    ) -> dict[str, torch.Tensor]:
        """{category name: (512,) vector} on the trainer's device."""
        del texts, batch, cache_dir
        known = self.embeddings()
        vectors = torch.from_numpy(known.vectors).to(self.device)
        return {
            name.split("/", 1)[0]: vector
            for name, vector in zip(known.categories, vectors, strict=True)
        } | dict(zip(known.categories, vectors, strict=True))

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        """The network, without the stock callback that would ask CLIP."""
        model = super().get_model(cfg, weights, verbose)
        kept = self.callbacks["on_pretrain_routine_end"]
        self.callbacks["on_pretrain_routine_end"] = [
            call for call in kept if call is not stock.on_pretrain_routine_end
        ]
        if _speak_to_ema not in self.callbacks["on_pretrain_routine_end"]:
            self.add_callback("on_pretrain_routine_end", _speak_to_ema)
        return model


def _speak_to_ema(trainer: Any) -> None:
    """The averaged weights are what is validated and saved: they must know the categories."""
    speak(trainer.ema.ema, trainer.embeddings())


class _Bar:
    """One live bar over all epochs, with the loss and the best box AP50 so far."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.best = 0.0

    def on_train_start(self, trainer: Any) -> None:
        if trainer.device.type == "cpu":  # ultralytics leaves a core idle: 1.8x slower on two
            torch.set_num_threads(os.cpu_count() or 1)
        batches = len(trainer.train_loader)
        self.bar = tqdm(
            total=trainer.epochs * batches,
            initial=trainer.start_epoch * batches,
            desc="fine-tune, batches",
            disable=is_quiet() or int(os.environ.get("RANK", "0")) > 0,  # one bar for all GPUs
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            file=sys.stderr,
        )

    def on_train_batch_end(self, trainer: Any) -> None:
        self.bar.update()
        loss = sum(float(value) for value in trainer.tloss.values())
        self.bar.set_postfix_str(f"loss {loss:.2f}, best AP50 {self.best:.3f}", refresh=False)

    def on_fit_epoch_end(self, trainer: Any) -> None:
        self.best = max(self.best, float(trainer.metrics.get("metrics/mAP50(B)", 0.0)))

    def on_train_end(self, trainer: Any) -> None:
        del trainer
        self.bar.close()

    def callbacks(self) -> dict[str, Any]:
        names = ("on_train_start", "on_train_batch_end", "on_fit_epoch_end", "on_train_end")
        return {name: getattr(self, name) for name in names}


def train(settings: Mapping[str, Any], augmentations: Sequence[Mapping[str, Any]]) -> Path:
    """Train with ultralytics' settings and albumentations' transforms; returns its folder.

    augmentations: a mapping each, `name` and the transform's arguments. Raises ConfigError for a
    transform that albumentations does not have.
    """
    overrides = dict(settings)
    if not overrides.get("resume"):
        overrides["augmentations"] = [_transform(entry) for entry in augmentations]
    trainer = DefectTrainer(overrides=overrides)
    for event, call in _Bar().callbacks().items():
        trainer.add_callback(event, call)
    trainer.train()
    return Path(trainer.save_dir)


def is_finished(last: Path) -> bool:
    """Whether a `last.pt` is of a training that came to its end (ultralytics then strips it).

    Raises WeightsError for a file that was damaged, as by a kill while it was written.
    """
    from ultralytics.nn.tasks import torch_safe_load

    try:
        checkpoint, _ = torch_safe_load(str(last))
    except (TypeError, RuntimeError, OSError) as error:
        raise WeightsError(
            f"{last}: is damaged, training cannot go on from it; start anew with --overwrite"
        ) from error
    return bool(np.equal(checkpoint.get("epoch", -1), -1))


def _transform(entry: Mapping[str, Any]) -> Any:
    import albumentations

    arguments = dict(entry)
    name = arguments.pop("name")
    kind = getattr(albumentations, str(name), None)
    if kind is None:
        raise ConfigError(f"augmentations: albumentations has no {name!r}")
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"augmentations: {name}: {error}") from error
