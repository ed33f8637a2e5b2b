"""A prior of each pixel from patches inside and outside of the training masks.

SAM knows edges, not what is normal on this product. Patches outside of the training masks show what
is normal, patches inside show defects. The log ratio of a patch's distances to both is added to
SAM's logits, if out-of-fold masks gain by it. The features are PatchCore's (Roth et al., CVPR
2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.io.disk_cache import key_of
from pipeline.io.read import sha256_of
from pipeline.io.write import whole_file
from pipeline.models.cards import PatchPriorCard
from pipeline.models.features.memory_bank import MemoryBank, Vectors
from pipeline.models.features.patches import BackboneFeatures, DeferredFeatures, PatchFeatures
from pipeline.models.sam.evaluation import Instance, by_image
from pipeline.models.tensors import as_weights_error, read_tensors, refuse_other_size
from pipeline.models.weights.store import WeightsStore
from pipeline.runtime.progress import say
from pipeline.types import Image, Mask

BACKBONE = "mobilenet_v2"
_SIDE = 896  # pixels to which images are resized; a patch is a 112th of that
_MAX_PATCHES = 10_000  # patches inside, and outside
_MIN_PATCHES_OF_IMAGE = 50  # of one image
_NEAREST = 3
_WEIGHT = 4.0  # of the ratio beside SAM's logits, from out-of-fold masks of three products
_INSIDE, _RIM = 0.9, 9  # share of a patch; pixels about a mask that are neither
_MIN_DISTANCE = 1e-3  # distance; less is as good as none


@dataclass(frozen=True)
class ForegroundBackground:
    """Patches (N, D) that lie inside masks, and outside of all masks."""

    inside: Vectors
    outside: Vectors


class PatchPrior:
    """Patches inside and outside of training masks, and the log ratio of distances to them."""

    def __init__(
        self, features: PatchFeatures, patches: ForegroundBackground, weight: float = _WEIGHT
    ) -> None:
        """`weight` multiplies the log ratio that is added to SAM's logits."""
        self.features, self.patches, self.weight = features, patches, weight
        self._inside, self._outside = MemoryBank(patches.inside), MemoryBank(patches.outside)
        self.key = key_of(
            f"{features.card} {weight}", patches.inside.tobytes(), patches.outside.tobytes()
        )
        self._last: tuple[Image, NDArray[np.float32]] | None = None

    @classmethod
    def fit(
        cls, features: PatchFeatures, patches: ForegroundBackground, seed: int = 0
    ) -> PatchPrior | None:
        """The prior of patches, of which at most some thousands are drawn; None for too few."""
        if min(len(patches.inside), len(patches.outside)) < _NEAREST:
            return None
        return cls(features, _sample(patches, _MAX_PATCHES, seed))

    @property
    def backbone(self) -> tuple[str, str]:
        """The name of the features' backbone, and its weights' sha256."""
        return self.features.card["features"], self.features.card["weights_sha256"]

    def ratio(self, image: Image, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.float32]:
        """(y1 - y0, x1 - x0) weighted log ratio for the pixels of the image from (x0, y0) to before
        (x1, y1): above 0 where patches are nearer to those inside of masks."""
        grid = self._grid(image)
        across, down = (np.array([x0, x1]), np.array([y0, y1]))
        columns = _cells(across, image.shape[1], grid.shape[1])
        rows = _cells(down, image.shape[0], grid.shape[0])
        part = grid[rows[0] : rows[1], columns[0] : columns[1]]
        patches = part.reshape(-1, grid.shape[2])
        far, near = (
            bank.search(patches, _NEAREST)[0].mean(axis=1) for bank in (self._outside, self._inside)
        )
        ratio = np.log(np.maximum(far, _MIN_DISTANCE) / np.maximum(near, _MIN_DISTANCE))
        ratio = ratio.reshape(part.shape[:2]).astype(np.float32)
        x, y = (
            ((np.arange(start, stop) + 0.5) * cells / extent - 0.5 - first).astype(np.float32)
            for start, stop, cells, extent, first in (
                (x0, x1, grid.shape[1], image.shape[1], columns[0]),
                (y0, y1, grid.shape[0], image.shape[0], rows[0]),
            )
        )
        at_x, at_y = np.meshgrid(x, y)
        fine = cv2.remap(ratio, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(fine * self.weight, np.float32)

    def _grid(self, image: Image) -> NDArray[np.float32]:
        """The patches (rows, columns, D) of an image, kept for its other boxes."""
        if self._last is None or self._last[0] is not image:
            grid = self.features.patches(image).numpy()
            if grid.shape[2] != self.patches.inside.shape[1]:
                name = self.features.card["features"]
                raise WeightsError(f"the patch prior does not hold patches of {name}; tune again")
            self._last = (image, grid)
        return self._last[1]

    def on(self, device: torch.device) -> PatchPrior:
        """The same, computed on a device."""
        self.features.on(device)
        return self

    def write(self, path: Path) -> PatchPriorCard:
        """Write the patches, in half precision; returns the card that `read_patch_prior` needs."""
        from safetensors.numpy import save

        tensors = {
            "inside": self.patches.inside.astype(np.float16),
            "outside": self.patches.outside.astype(np.float16),
        }
        with whole_file(path) as temporary:
            temporary.write_bytes(save(tensors))
        own = {"weight": self.weight, "sha256": sha256_of(path)}
        return PatchPriorCard.model_validate(self.features.card | own)


def prior_features(device: torch.device) -> PatchFeatures | None:
    """The features of patches; None, with a notice, if the backbone's weights cannot be had."""
    try:
        weights = WeightsStore().get(BACKBONE)
    except WeightsError as error:
        say(f"{error}")
        say(f"without {BACKBONE} there is no patch prior")
        return None
    return BackboneFeatures(BACKBONE, weights.path, weights.sha256, _SIDE, device)


def foreground_background(
    features: PatchFeatures, image: Image, mask: Mask, images: int = 1, seed: int = 0
) -> ForegroundBackground:
    """The patches of an image, inside and outside of the union (H, W) of its masks; those on a rim
    are neither. At most twice as many are drawn as a prior of so many `images` holds."""
    grid = features.patches(image).numpy()
    rows, columns, size = grid.shape
    near = cv2.dilate(mask.astype(np.uint8), np.ones((_RIM, _RIM), np.uint8)).astype(np.float32)
    shares = [
        cv2.resize(area, (columns, rows), interpolation=cv2.INTER_AREA).ravel()
        for area in (mask.astype(np.float32), near)
    ]
    patches = grid.reshape(-1, size)
    all_patches = ForegroundBackground(patches[shares[0] > _INSIDE], patches[shares[1] == 0])
    return _sample(all_patches, max(2 * _MAX_PATCHES // images, _MIN_PATCHES_OF_IMAGE), seed)


def join(parts: Sequence[ForegroundBackground]) -> ForegroundBackground:
    """The patches of several images, at least one."""
    inside, outside = ([getattr(one, kind) for one in parts] for kind in ("inside", "outside"))
    return ForegroundBackground(np.concatenate(inside), np.concatenate(outside))


def read_patch_prior(path: Path, card: PatchPriorCard, store: WeightsStore) -> PatchPrior:
    """The prior that `PatchPrior.write` wrote. Raises WeightsError for a file or a backbone other
    than the card names."""
    weights = store.get(card.features)
    if weights.sha256 != card.weights_sha256:
        raise WeightsError(f"{path}: is of other weights of {card.features}; tune again")
    tensors = read_tensors(path, card.sha256, "the card")
    refuse_other_size(path, tensors, {"inside": (None, None)})
    refuse_other_size(path, tensors, {"outside": (None, tensors["inside"].shape[1])})
    with as_weights_error(path):
        inside, outside = (tensors[name].float().numpy() for name in ("inside", "outside"))
        features = DeferredFeatures(card.features, weights.path, weights.sha256, card.image_side)
        return PatchPrior(features, ForegroundBackground(inside, outside), card.weight)


def sample_patches(
    instances: Sequence[Instance], device: torch.device, seed: int
) -> dict[str, ForegroundBackground]:
    """The patches inside and outside of the objects' masks, by photo. Empty, with a notice, if the
    backbone's weights cannot be had."""
    features = prior_features(device)
    if features is None:
        return {}
    photos = len({instance.record.path for instance in instances})
    parts: dict[str, list[ForegroundBackground]] = {}
    for image, rows in by_image(instances, "patches inside and outside of masks"):
        union = mask_geometry.union([instances[row].mask for row in rows], *image.shape[:2])
        patches = foreground_background(features, image, union, photos, seed)
        parts.setdefault(instances[rows[0]].group, []).append(patches)
    return {group: join(own) for group, own in parts.items()}


def fit_patch_prior(
    patches: Mapping[str, ForegroundBackground],
    groups: Iterable[str],
    device: torch.device,
    seed: int,
) -> PatchPrior | None:
    """The prior of some photos' patches; None where they are too few."""
    parts = [patches[group] for group in sorted(groups) if group in patches]
    features = prior_features(device) if parts else None
    return PatchPrior.fit(features, join(parts), seed) if features else None


def _sample(patches: ForegroundBackground, most: int, seed: int) -> ForegroundBackground:
    """At most so many inside and outside, at random, in their order."""
    generator = np.random.default_rng(seed)
    samples = [
        rows[np.sort(generator.permutation(len(rows))[:most])]
        for rows in (patches.inside, patches.outside)
    ]
    return ForegroundBackground(*samples)


def _cells(pixels: NDArray[np.int64], extent: int, cells: int) -> tuple[int, int]:
    """The range of a grid's cells that the pixels from the first to before the second depend on."""
    first, last = np.array([pixels[0] + 0.5, pixels[1] - 0.5]) * cells / extent - 0.5
    return max(int(np.floor(first)), 0), min(int(np.floor(last)) + 2, cells)
