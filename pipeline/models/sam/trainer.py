"""Training SAM on a few masks: the decoder, on request the prompt encoder or LoRA in the encoder.

Each object has several crops, off its centre, rotated and mirrored. Their embeddings are computed
once and kept, so that a step costs the decoder alone.
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
from pipeline.geometry.crops import (
    DIHEDRAL_COUNT,
    Crop,
    crop_image,
    crop_mask,
    dihedral,
    dihedral_boxes,
    square_crop,
    to_crop,
)
from pipeline.models.processes import joined, mean, share
from pipeline.models.sam.encoders import ImageEncoder, normalised
from pipeline.models.sam.lora import add_lora, lora_state_dict
from pipeline.models.sam.network import MASK_STRIDE, Prompts, decode
from pipeline.runtime.progress import track
from pipeline.types import Image, Mask

Delta = dict[str, torch.Tensor]  # by the name of the weight
Tuned = Literal["decoder", "prompts", "encoder"]
_GRID_FACTOR = 2  # the loss sees logits at this multiple of the decoder's own grid
_MAX_SHIFT = 0.12  # of the box's longer side, by which a crop may be off its centre
_FOCAL_WEIGHT = 8.0  # weight of the pixels' loss beside that of the overlap


@dataclass(frozen=True)
class TrainingExample:
    """One crop of one object.

    picture: (S, S, 3) uint8. box: (4,) in its pixels. cover: (S / 2, S / 2) uint8, the share of
    each cell that the object covers, in [0, 255].
    """

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
    """`count` crops of an object, at scales between the two, off its centre, rotated, mirrored."""
    grid = side // MASK_STRIDE * _GRID_FACTOR
    longer = float(max(box[2] - box[0], box[3] - box[1]))
    first = int(generator.integers(DIHEDRAL_COUNT))
    for number in range(count):
        scale = float(np.exp(generator.uniform(*np.log(crop_scales))))
        x, y, width = square_crop(box, scale)
        shift_x, shift_y = generator.uniform(-_MAX_SHIFT, _MAX_SHIFT, 2) * longer
        crop, position = Crop(x + shift_x, y + shift_y, width), (first + number) % DIHEDRAL_COUNT
        cover = np.round(crop_mask(mask, crop, grid) * 255).astype(np.uint8)
        yield TrainingExample(
            np.asarray(dihedral(crop_image(image, crop, side), position), np.uint8),
            dihedral_boxes(to_crop(as_boxes(box), crop, side), position, side)[0],
            np.asarray(dihedral(cover, position), np.uint8),
        )


class SamTrainer:
    """Trains a copy of a SAM on examples; the given SAM stays as it is."""

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
        """`close_network` is the image encoder at the examples' side. It gets LoRA of `rank` when
        `tune` is "encoder". `multimask` also trains SAM's three masks and their ratings. `rounds`
        beyond one train it with its own first mask as a prompt."""
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
        self.encoder_network: torch.nn.Module | None = None
        self._lora: list[torch.nn.Parameter] = []
        if tune == "encoder":
            if close_network is None:
                raise ValueError("LoRA needs the image encoder")
            self.encoder_network = copy.deepcopy(close_network)
            self._lora = add_lora(self.encoder_network, rank)
            self.encoder_network.to(self.device)  # LoRA with it
        for parameter in learning:
            parameter.requires_grad_(True)
        self._learning = learning

    def fit(
        self,
        examples: Sequence[Sequence[TrainingExample]],
        steps: int,
        batch: int,
        learning_rate: float,
        jitter: float,
        seed: int,
        title: str = "tune SAM",
    ) -> list[float]:
        """Train on objects, each with its examples; returns the loss of every step.

        Each step draws `batch` objects, each once before any comes again, and one crop of each.
        Boxes are moved by a normal error of `jitter` of their sides. In several processes, each
        draws the same and computes its share.
        """
        torch.manual_seed(seed)
        generator = np.random.default_rng(seed)
        optimizer = torch.optim.AdamW(
            [{"params": self._learning}, {"params": self._lora}], learning_rate, fused=True
        )
        warm_up = 0.2 if steps == 10 else 0.1  # torch divides by 0.1 x steps - 1
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, learning_rate, total_steps=steps, pct_start=warm_up
        )
        order = _endless(len(examples), generator)
        learning = [module for module in (self.network, self.encoder_network) if module is not None]
        loss_of, (own, items) = joined(self._loss, *learning), share(min(batch, len(examples)))
        losses = []
        for _ in track(range(steps), title):
            objects = [examples[next(order)] for _ in range(min(batch, len(examples)))]
            batch_examples = [crops[int(generator.integers(len(crops)))] for crops in objects]
            boxes = np.stack([_jittered(e.box, jitter, generator) for e in batch_examples])
            loss = mean(loss_of(batch_examples[own], as_boxes(boxes[own])), items)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*self._learning, *self._lora], 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        self.network.eval()
        return losses

    def delta(self, base: Any) -> Delta:
        """The difference to the base's weights in float16, and LoRA's weights."""
        old = base.state_dict()
        delta = {
            key: (value.cpu() - old[key]).half().contiguous()
            for key, value in self.network.state_dict().items()
            if not key.startswith("image_encoder.") and not torch.equal(value.cpu(), old[key])
        }
        if self.encoder_network is not None:
            learned = lora_state_dict(self.encoder_network)
            delta |= {f"image_encoder.{k}": v.half().cpu().contiguous() for k, v in learned.items()}
        return delta

    def _loss(self, batch: Sequence[TrainingExample], boxes: Boxes) -> torch.Tensor:
        embeddings = self._embeddings([example.picture for example in batch])
        cover = np.stack([example.cover for example in batch]).astype(np.float32) / 255
        truth = torch.from_numpy(cover).to(self.device)
        prompt = torch.from_numpy(boxes).to(self.device)
        first = None
        losses = []
        for _ in range(self.rounds):
            logits, predicted = decode(self.network, embeddings, Prompts(prompt, logits=first))
            losses.append(self._prediction_loss(logits, predicted, truth))
            first = logits[:, :1].detach().clamp(-32, 32)
        return torch.stack(losses).mean()

    def _prediction_loss(
        self, logits: torch.Tensor, predicted: torch.Tensor, truth: torch.Tensor
    ) -> torch.Tensor:
        """The loss of the single mask, and of the best of the three if those are trained."""
        trained = logits if self.multimask else logits[:, :1]
        fine = functional.interpolate(
            trained, scale_factor=_GRID_FACTOR, mode="bilinear", align_corners=False
        )
        losses = _mask_loss(fine, truth[:, None].expand_as(fine))
        true_iou = _iou(fine.detach() > 0, truth[:, None] > 0.5)
        rating = (predicted[:, : trained.shape[1]] - true_iou).square().mean()
        loss = losses[:, 0].mean() + rating
        if self.multimask:
            loss = loss + losses[:, 1:].min(dim=1).values.mean()
        return loss

    def _embeddings(self, pictures: Sequence[Image]) -> torch.Tensor:
        if self.encoder_network is None:
            embeddings = np.stack(self.encoder.encode(pictures)).astype(np.float32)
            return torch.from_numpy(embeddings).to(self.device)
        pixels = np.stack([normalised(picture, self.encoder.side) for picture in pictures])
        encoded: torch.Tensor = self.encoder_network(torch.from_numpy(pixels).to(self.device))
        return encoded


def _mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """(B, N): cross entropy where the mask is wrong (focal, gamma 1), plus Dice."""
    likely = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    focal = (entropy * (likely.detach() - truth).abs()).mean(dim=(2, 3))
    shared = (likely * truth).sum(dim=(2, 3))
    dice = 1 - (2 * shared + 1) / ((likely + truth).sum(dim=(2, 3)) + 1)
    return _FOCAL_WEIGHT * focal + dice


def _iou(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    shared = (predicted & truth).sum(dim=(2, 3)).float()
    return shared / (predicted | truth).sum(dim=(2, 3)).clamp(min=1)


def _jittered(
    box: NDArray[np.float32], jitter: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    sides = np.tile(box[2:] - box[:2], 2)
    return np.asarray(box + generator.normal(0, jitter, 4) * sides, np.float32)


def _endless(count: int, generator: np.random.Generator) -> Iterator[int]:
    """Every index once, in a random order, again and again."""
    while True:
        yield from (int(index) for index in generator.permutation(count))


def write_delta(path: Path, delta: Delta) -> None:
    """Write a delta as safetensors, whole or not at all."""
    from safetensors.torch import save

    from pipeline.io.write import write_bytes

    write_bytes(path, save(dict(sorted(delta.items()))))


def learns_encoder(delta: Delta) -> bool:
    """Whether a delta changes the image encoder."""
    return any(key.startswith("image_encoder.") for key in delta)


def add_delta(network: Any, delta: Delta) -> None:
    """Add a delta to a SAM's weights, in place, LoRA's among them."""
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
