"""Tuning SAM on a few masks: the decoder, on request its prompts or adapters in the encoder.

Every object is looked at several times, closely, off its centre and in other positions; what the
encoder makes of each look is computed once and kept, so that a step costs the decoder alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.geometry.boxes import Boxes, as_boxes
from pipeline.geometry.crops import DIHEDRAL_COUNT, Crop, cut, cut_mask, dihedral, into, square_crop
from pipeline.geometry.crops import dihedral_boxes as turn_boxes
from pipeline.models.sam.encoders import ImageEncoder, normalised
from pipeline.models.sam.lora import add_lora, lora_state_dict
from pipeline.models.sam.network import MASK_STRIDE, Prompts, decode
from pipeline.runtime.progress import track
from pipeline.types import Image, Mask

Tuned = Literal["decoder", "prompts", "encoder"]
_FINE = 2  # the loss sees logits at this multiple of the decoder's own grid
_SHIFT = 0.12  # of the box's longer side, by which a look may be off its centre
_EDGE = 8.0  # weight of the pixels' loss beside that of the overlap


@dataclass(frozen=True)
class TrainingExample:
    """One look at one object: a picture (S, S, 3), the box in it, and how much of each pixel of a
    grid (S / 2, S / 2) the object covers, in [0, 255]."""

    picture: Image
    box: NDArray[np.float32]
    cover: NDArray[np.uint8]


def training_examples(
    image: Image,
    mask: Mask,
    box: NDArray[np.float32],
    side: int,
    crop_scales: tuple[float, float],
    count: int,
    generator: np.random.Generator,
) -> Iterator[TrainingExample]:
    """`count` looks at an object: zooms between the two, off its centre, in turning positions."""
    grid = side // MASK_STRIDE * _FINE
    longer = float(max(box[2] - box[0], box[3] - box[1]))
    first = int(generator.integers(DIHEDRAL_COUNT))
    for number in range(count):
        zoom = float(np.exp(generator.uniform(*np.log(crop_scales))))
        x, y, width = square_crop(box, zoom)
        shift_x, shift_y = generator.uniform(-_SHIFT, _SHIFT, 2) * longer
        window, turn = Crop(x + shift_x, y + shift_y, width), (first + number) % DIHEDRAL_COUNT
        cover = np.round(cut_mask(mask, window, grid) * 255).astype(np.uint8)
        yield TrainingExample(
            np.asarray(dihedral(cut(image, window, side), turn), np.uint8),
            turn_boxes(into(as_boxes(box), window, side), turn, side)[0],
            np.asarray(dihedral(cover, turn), np.uint8),
        )


class SamTrainer:
    """Trains a copy of a SAM on examples; the SAM it was given stays as it is."""

    def __init__(
        self,
        network: Any,
        encoder: ImageEncoder,
        tune: Tuned = "decoder",
        close_network: torch.nn.Module | None = None,
        rank: int = 4,
        multimask: bool = False,
        rounds: int = 1,
        device: torch.device | None = None,
    ) -> None:
        """`close_network` is the image encoder at the examples' side, which gets the adapters of
        `rank` when `tune` is "encoder". `multimask` also teaches SAM's three guesses and how it
        rates them; `rounds` beyond one teach it to better its own first mask."""
        self.device = device or torch.device("cpu")
        self.network = copy.deepcopy(network).to(self.device)
        self.encoder = encoder
        self.tune = tune
        self.multimask = multimask
        self.rounds = rounds
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        learning = list(self.network.mask_decoder.parameters())
        if tune == "prompts":
            learning += list(self.network.prompt_encoder.parameters())
        self.adapted: torch.nn.Module | None = None
        self._adapters: list[torch.nn.Parameter] = []
        if tune == "encoder":
            if close_network is None:
                raise ValueError("adapters need the image encoder")
            self.adapted = copy.deepcopy(close_network)
            self._adapters = add_lora(self.adapted, rank)
            self.adapted.to(self.device)  # the adapters with it
        for parameter in learning:
            parameter.requires_grad_(True)
        self._learning = learning

    def fit(
        self,
        shown: Sequence[Sequence[TrainingExample]],
        steps: int,
        batch: int,
        learning_rate: float,
        jitter: float,
        seed: int,
        title: str = "tune SAM",
    ) -> list[float]:
        """Train on objects, each with its examples; returns the loss of every step.

        Each step draws `batch` objects, each once before any comes again, and one look at each.
        Boxes are moved by a normal error of `jitter` of their sides.
        """
        torch.manual_seed(seed)
        generator = np.random.default_rng(seed)
        optimizer = torch.optim.AdamW(
            [{"params": self._learning}, {"params": self._adapters}], learning_rate
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, learning_rate, total_steps=steps, pct_start=0.1
        )
        order = _without_end(len(shown), generator)
        losses = []
        for _ in track(range(steps), title):
            drawn = [shown[next(order)] for _ in range(min(batch, len(shown)))]
            some = [views[int(generator.integers(len(views)))] for views in drawn]
            boxes = np.stack([_moved(e.box, jitter, generator) for e in some])
            loss = self._loss(some, as_boxes(boxes))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*self._learning, *self._adapters], 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        self.network.eval()
        return losses

    def delta(self, base: Any) -> dict[str, torch.Tensor]:
        """What was learned: differences to the base's weights (float16), and adapters."""
        old = base.state_dict()
        found = {
            key: (value.cpu() - old[key]).half().contiguous()
            for key, value in self.network.state_dict().items()
            if not key.startswith("image_encoder.") and not torch.equal(value.cpu(), old[key])
        }
        if self.adapted is not None:
            learned = lora_state_dict(self.adapted)
            found |= {f"image_encoder.{k}": v.half().cpu().contiguous() for k, v in learned.items()}
        return found

    def _loss(self, some: Sequence[TrainingExample], boxes: Boxes) -> torch.Tensor:
        embeddings = self._embeddings([example.picture for example in some])
        cover = np.stack([example.cover for example in some]).astype(np.float32) / 255
        truth = torch.from_numpy(cover).to(self.device)
        prompt = torch.from_numpy(boxes).to(self.device)
        first = None
        losses = []
        for _ in range(self.rounds):
            logits, predicted = decode(self.network, embeddings, Prompts(prompt, logits=first))
            losses.append(self._answer_loss(logits, predicted, truth))
            first = logits[:, :1].detach().clamp(-32, 32)
        return torch.stack(losses).mean()

    def _answer_loss(
        self, logits: torch.Tensor, predicted: torch.Tensor, truth: torch.Tensor
    ) -> torch.Tensor:
        """That of the one answer, and of the best of the guesses if those are taught."""
        taught = logits if self.multimask else logits[:, :1]
        fine = functional.interpolate(
            taught, scale_factor=_FINE, mode="bilinear", align_corners=False
        )
        losses = _mask_loss(fine, truth[:, None].expand_as(fine))
        true_iou = _iou(fine.detach() > 0, truth[:, None] > 0.5)
        rating = (predicted[:, : taught.shape[1]] - true_iou).square().mean()
        loss = losses[:, 0].mean() + rating
        if self.multimask:
            loss = loss + losses[:, 1:].min(dim=1).values.mean()
        return loss

    def _embeddings(self, pictures: Sequence[Image]) -> torch.Tensor:
        if self.adapted is None:
            kept = np.stack(self.encoder.encode(pictures)).astype(np.float32)
            return torch.from_numpy(kept).to(self.device)
        pixels = np.stack([normalised(picture, self.encoder.side) for picture in pictures])
        embeddings: torch.Tensor = self.adapted(torch.from_numpy(pixels).to(self.device))
        return embeddings


def _mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(B, N): cross entropy where the answer is wrong (focal, gamma 1), and Dice's overlap."""
    likely = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = (entropy * (likely.detach() - truth).abs()).mean(dim=(2, 3))
    shared = (likely * truth).sum(dim=(2, 3))
    dice = 1 - (2 * shared + 1) / ((likely + truth).sum(dim=(2, 3)) + 1)
    return _EDGE * focal + dice


def _iou(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    shared = (found & truth).sum(dim=(2, 3)).float()
    return shared / (found | truth).sum(dim=(2, 3)).clamp(min=1)


def _moved(
    box: NDArray[np.float32], jitter: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    sides = np.tile(box[2:] - box[:2], 2)
    return np.asarray(box + generator.normal(0, jitter, 4) * sides, np.float32)


def _without_end(count: int, generator: np.random.Generator) -> Iterator[int]:
    """Every index once, in an order of chance, again and again."""
    while True:
        yield from (int(index) for index in generator.permutation(count))


def write_delta(path: Path, delta: dict[str, torch.Tensor]) -> None:
    """Write what was learned as safetensors, whole or not at all."""
    from safetensors.torch import save

    from pipeline.io.write import write_bytes

    write_bytes(path, save(dict(sorted(delta.items()))))


def add_delta(network: Any, delta: dict[str, torch.Tensor]) -> None:
    """Add what was learned to a SAM's weights, in place, adapters among them."""
    from pipeline.models.sam.lora import merge_lora

    prefix = "image_encoder."
    merge_lora(
        network.image_encoder,
        {k.removeprefix(prefix): v for k, v in delta.items() if k.startswith(prefix)},
    )
    own = network.state_dict()
    with torch.no_grad():
        for key, value in delta.items():
            if not key.startswith(prefix):
                own[key] += value.float()
