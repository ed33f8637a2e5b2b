"""The image-level baseline: a frozen trunk, and a head that learns on the trunk's features.

The trunk never changes, so each image passes it once for each of its four mirror images; an epoch
then trains the head alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.models.backbones import SplitBackbone, normalised, split_backbone
from pipeline.progress import track
from pipeline.storage import read_json, whole_file, write_json
from pipeline.types import Image

_MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


class ImageClassifier:
    """A `Classifier` over a split backbone."""

    def __init__(
        self,
        backbone: SplitBackbone,
        categories: Sequence[str],
        image_side: int,
        device: torch.device,
    ) -> None:
        """Images are squeezed to `image_side` x `image_side` pixels, as the study did."""
        self.backbone = backbone
        self.categories = tuple(categories)
        self.image_side = image_side
        self.device = device
        backbone.trunk.to(device)
        backbone.head.to(device)

    @torch.inference_mode()
    def classify(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(N, C) probabilities that sum to 1 in each row."""
        if not images:
            return np.zeros((0, len(self.categories)), dtype=np.float32)
        self.backbone.head.eval()
        rows = [self.backbone.head(self.features([image])[:, 0].float()) for image in images]
        return np.asarray(torch.cat(rows).softmax(dim=1).cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def features(self, images: Sequence[Image], mirrors: int = 1) -> torch.Tensor:
        """The trunk's features (N, mirrors, ...), half precision; mirror 0 is the image itself."""
        found = []
        for image in images:
            tensor = self._tensor(image)
            views = [tensor.flip(axes) if axes else tensor for axes in _MIRRORS[:mirrors]]
            found.append(torch.stack([self.backbone.trunk(view)[0].half() for view in views]))
        return torch.stack(found)

    def _tensor(self, image: Image) -> torch.Tensor:
        return normalised(image, self.image_side).to(self.device)

    def save(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Write model.safetensors and card.json."""
        from safetensors.torch import save

        state = {f"trunk.{k}": v for k, v in self.backbone.trunk.state_dict().items()}
        state |= {f"head.{k}": v for k, v in self.backbone.head.state_dict().items()}
        with whole_file(folder / "model.safetensors") as temporary:
            temporary.write_bytes(save({k: v.cpu().contiguous() for k, v in state.items()}))
        shape = {"categories": list(self.categories), "image_side": self.image_side}
        write_json(folder / "card.json", {**card, **shape})


def load_classifier(folder: Path, device: torch.device) -> ImageClassifier:
    """What `save` wrote; the card must name `backbone` and `unfreeze`."""
    from safetensors.torch import load_file

    card = read_json(folder / "card.json")
    categories = card["categories"]
    backbone = split_backbone(card["backbone"], None, len(categories), card["unfreeze"])
    state = load_file(folder / "model.safetensors")
    for part, module in (("trunk.", backbone.trunk), ("head.", backbone.head)):
        module.load_state_dict({k[len(part) :]: v for k, v in state.items() if k.startswith(part)})
    return ImageClassifier(backbone, categories, card["image_side"], device)


@dataclass(frozen=True)
class Epoch:
    """Mean loss and accuracy in [0, 1] on the training images in one epoch."""

    loss: float
    accuracy: float


def train_classifier(
    classifier: ImageClassifier,
    examples: Iterable[tuple[Image, int]],
    epochs: int,
    batch: int,
    learning_rate: float,
    augment: bool,
    seed: int,
) -> list[Epoch]:
    """Train the head with Adam and cross entropy; `augment` shows mirror images, one at random.

    `examples`, images with their labels, are read once. Returns one entry per epoch, and none
    where there was no example.
    """
    mirrors = len(_MIRRORS) if augment else 1
    features, labels = [], []
    for image, label in examples:
        features.append(classifier.features([image], mirrors))
        labels.append(label)
    if not features:
        return []
    cached, target = torch.cat(features), torch.tensor(labels)
    head, generator = classifier.backbone.head, torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(head.parameters(), lr=learning_rate)
    history = []
    for _ in track(range(epochs), "train classifier, epochs"):
        head.train()
        order = torch.randperm(len(target), generator=generator)
        view = torch.randint(mirrors, (len(target),), generator=generator)
        total, right = 0.0, 0
        for rows in torch.split(order, batch):
            if len(rows) == 1 and len(target) > 1:
                continue  # batch norm cannot learn from one image
            inputs = cached[rows, view[rows]].to(classifier.device).float()
            wanted = target[rows].to(classifier.device)
            logits = head(inputs)
            loss = functional.cross_entropy(logits, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
            right += int((logits.argmax(dim=1) == wanted).sum())
        history.append(Epoch(total / len(target), right / len(target)))
    return history
