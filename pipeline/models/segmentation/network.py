"""The network that tells the category of each pixel: an ImageNet encoder, and a feature pyramid
(Lin et al., CVPR 2017) down to stride 2, so that defects of two pixels have a place of their own.

Each layer of the encoder is standardised before the pyramid takes it: layers of unequal size are
then learned from at once, and a few masks suffice (docs/explanation/segmenter.md).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.models.features.backbones import MEAN, STD, load_backbone
from pipeline.models.processes import BatchNorm
from pipeline.models.weights.store import Weights

Encoder = Literal["mobilenet_v2", "resnet18", "resnet50"]
STRIDE = 32  # pixels; the sides of an input are multiples of it
STAGES = 5  # of the encoder, of strides 2 to 32
_WIDTHS = {
    "mobilenet_v2": (16, 24, 32, 96, 320),
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
}
_MOBILENET_CUTS = (0, 2, 4, 7, 14, 18)  # blocks of strides 2, 4, 8, 16 and 32
_WIDTH = 64  # channels of the pyramid


@dataclass(frozen=True)
class NetworkOptions:
    """What a network is built of. categories: how many, background not among them."""

    encoder: Encoder
    categories: int


class SegmentationNetwork(nn.Module):
    """Pixels (N, 3, H, W) in [0, 255] RGB to logits (N, 1 + C, H, W), background first. H and W
    are multiples of 32."""

    def __init__(self, options: NetworkOptions, weights: Weights | None = None) -> None:
        """weights: of the encoder; None for random ones."""
        super().__init__()
        self.options = options
        self.frozen = 0  # stages that do not learn, see `freeze`
        self._folded: list[nn.Module] = []
        widths = _WIDTHS[options.encoder]
        self.stages = nn.ModuleList(encoder_stages(options.encoder, weights))
        self.standardise = nn.ModuleList([BatchNorm(w, affine=False) for w in widths])
        self.lateral = nn.ModuleList([nn.Conv2d(w, _WIDTH, 1) for w in widths])
        self.merge = nn.ModuleList([_merge() for _ in widths])
        self.head = nn.Conv2d(_WIDTH, 1 + options.categories, 1)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("spread", torch.tensor(STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """See the class."""
        layer = (pixels - self.get_buffer("mean")) / self.get_buffer("spread")
        layers = []
        with torch.no_grad():
            for stage in self._folded:
                layers.append(layer := stage(layer))
        for stage in self.stages[len(layers) :]:
            layers.append(layer := stage(layer))
        tops = [
            lateral(standardise(layer.float()))
            for lateral, standardise, layer in zip(
                self.lateral, self.standardise, layers, strict=True
            )
        ]
        merged = self.merge[-1](tops[-1])
        for merge, top in zip(reversed(self.merge[:-1]), reversed(tops[:-1]), strict=True):
            merged = merge(top + _twice(merged))
        return _twice(self.head(merged).float())

    def freeze(self, stages: int) -> None:
        """Let only what follows the encoder's first stages learn. In training these are copies
        whose batch norms are folded into their convolutions, which take half of the time. `eval`
        and `state_dict` know nothing of the copies."""
        self.frozen = stages
        self._folded = [_folded(stage) for stage in self.stages[:stages]]

    def train(self, mode: bool = True) -> SegmentationNetwork:
        """The encoder's batch statistics stay those of ImageNet: batches are too small."""
        super().train(mode)
        if not mode:
            self._folded = []
        for module in self.stages.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def load_trained(self, other: SegmentationNetwork) -> None:
        """Take the weights of a network of the same encoder. Categories that it has not, which come
        last, keep their own. Raises RuntimeError for another encoder."""
        state = {key: value.clone() for key, value in other.state_dict().items()}
        for key, own in self.head.state_dict().items():
            known = state[f"head.{key}"]
            state[f"head.{key}"] = torch.cat([known, own[len(known) :]])
        self.load_state_dict(state)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """All that ImageNet did not train."""
        encoder = {id(parameter) for parameter in self.stages.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in encoder]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Those of the encoder's stages that are not frozen."""
        return [p for stage in self.stages[self.frozen :] for p in stage.parameters()]


def encoder_stages(name: Encoder, weights: Weights | None) -> list[nn.Sequential]:
    """A backbone of torchvision in five stages, of strides 2, 4, 8, 16 and 32."""
    backbone = load_backbone(name, weights.path if weights else None)
    if name == "mobilenet_v2":
        blocks = list(backbone.features)
        return [nn.Sequential(*blocks[start:stop]) for start, stop in pairwise(_MOBILENET_CUTS)]
    stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.relu)
    first = nn.Sequential(backbone.maxpool, backbone.layer1)
    return [stem, first, *(nn.Sequential(getattr(backbone, f"layer{n}")) for n in (2, 3, 4))]


def _folded(stage: nn.Module) -> nn.Module:
    """A copy of a stage in which each convolution does the work of the batch norm after it, whose
    statistics stay. A list of its own in the network keeps it out of the state."""
    copied = deepcopy(stage).eval().requires_grad_(requires_grad=False)
    for module in copied.modules():
        for (name, first), (after, second) in pairwise(list(module.named_children())):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, after, nn.Identity())
    return copied


def _twice(layer: torch.Tensor) -> torch.Tensor:
    """A layer at twice its sides, bilinear."""
    return functional.interpolate(layer, scale_factor=2, mode="bilinear", align_corners=False)


def _merge() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False),
        BatchNorm(_WIDTH),
        nn.ReLU(inplace=True),
    )
