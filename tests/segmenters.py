"""The least photos, networks and trainings of a segmentation model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.geometry.masks import encode
from pipeline.io.images import write_png
from pipeline.models.segmentation import crops
from pipeline.models.segmentation.defect_map import RegionOptions
from pipeline.models.segmentation.inference import Inference
from pipeline.models.segmentation.model import DefectSegmenter, Member
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.models.segmentation.photos import LabelledPhoto
from pipeline.types import Detections, ImageRecord

CPU = torch.device("cpu")
Block = tuple[int, int, int, int, int]  # label, x0, y0, x1, y1


@contextmanager
def small_crops() -> Iterator[None]:
    """In here, a network learns from crops of 64 pixels, a sixteenth of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crops, "SIDE", 64)
        yield


def blocks_of(size: tuple[int, int], blocks: Sequence[Block]) -> Detections:
    """Objects that are filled boxes on an image of a size (height, width)."""
    masks = []
    for _, x0, y0, x1, y1 in blocks:
        mask = np.zeros(size, bool)
        mask[y0:y1, x0:x1] = True
        masks.append(encode(mask))
    labels = np.array([block[0] for block in blocks], np.int64)
    return Detections(
        np.array([block[1:] for block in blocks], np.float32).reshape(-1, 4),
        labels,
        masks=tuple(masks),
    )


def drawn_photo(
    path: Path, size: tuple[int, int] = (96, 96), blocks: Sequence[Block] = (), group: str = ""
) -> LabelledPhoto:
    """A dark photo on which each object is a bright block; its file is written."""
    generator = np.random.default_rng(len(path.name))
    image = generator.integers(20, 60, (*size, 3)).astype(np.uint8)
    for _, x0, y0, x1, y1 in blocks:
        image[y0:y1, x0:x1] += 160
    write_png(path, image)
    record = ImageRecord(1, path, path.name, *size, group=group)
    return LabelledPhoto(record, blocks_of(size, blocks))


class BrightPixels(nn.Module):
    """Logits by the brightness of each pixel alone: bright ones are of one category."""

    def __init__(self, categories: int = 2, bright: int = 0) -> None:
        super().__init__()
        self.categories, self.bright = categories, bright

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 1 + C, H, W) of pixels (N, 3, H, W)."""
        shade = (pixels.mean(dim=1) - 128) / 8
        logits = pixels.new_full((len(pixels), 1 + self.categories, *pixels.shape[2:]), -30.0)
        logits[:, 0], logits[:, 1 + self.bright] = -shade, shade
        return logits


def on_views(network: nn.Module) -> Inference:
    """A network as it is, on each view."""
    return lambda views: [network(pixels) for pixels in views]


def random_segmenter(
    unseen: Sequence[Sequence[str]] = ((),), confidence: float = 0.0, threshold: float = 0.5
) -> DefectSegmenter:
    """Networks with random weights, one for each of the groups that it did not learn from."""
    members = []
    for number, groups in enumerate(unseen):
        torch.manual_seed(number)
        network = SegmentationNetwork(NetworkOptions("mobilenet_v2", 2))
        members.append(Member(network, frozenset(groups)))
    options = RegionOptions(threshold, 2, 3)
    return DefectSegmenter(members, ("crack", "stain"), 1.0, options, confidence, CPU)
