"""What a segmentation network minimises.

A Dice over all pixels counts a defect by its area: beside one that covers half a crop, ten small
ones weigh nothing, and the network stays unsure of them. So half of the Dice is a mean over the
defects, each with the pixels that are nearest to it (Kofler et al., "blob loss", IPMI 2023; Jaus et
al., "Every Component Counts", AAAI 2025). There a defect weighs as the root of its area: were all
alike, the corner of a defect at the edge of a crop would weigh as much as a whole one.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from pipeline.models.processes import mean, total

_CATEGORY = 0.5  # weight of the loss of the categories
_EACH_DEFECT = 0.5  # share of the Dice that is a mean over the defects


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of logits (N, 1 + C, H, W) and labels (N, H, W) in 0..C: binary cross entropy and soft Dice
    of defect against background (Milletari et al. 2016), and the cross entropy of the categories on
    defects alone, whose few pixels would otherwise weigh nothing. In several processes, each of
    which has crops of its own, it is the loss of all crops together."""
    is_defect = labels > 0
    target = is_defect.float()
    margin = torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]
    defect = margin.sigmoid()
    dice = _dice(total((defect * target).sum()), total((defect + target).sum()))
    any_defect = bool(total(is_defect.sum()) > 0)
    if any_defect:
        each = defect_dice(defect, target, nearest_defect(is_defect.cpu().numpy()))
        dice = (1 - _EACH_DEFECT) * dice + _EACH_DEFECT * each
    entropy = functional.binary_cross_entropy_with_logits(margin, target)
    loss = mean(entropy, len(labels)) + dice
    if logits.shape[1] > 2 and any_defect:
        own, category = logits.permute(0, 2, 3, 1)[is_defect][:, 1:], labels[is_defect] - 1
        entropy = functional.cross_entropy(own, category) if len(own) else own.sum()
        loss = loss + _CATEGORY * mean(entropy, len(own))
    return loss


def defect_dice(
    defect: torch.Tensor, target: torch.Tensor, nearest: NDArray[np.int64]
) -> torch.Tensor:
    """Mean over the defects, weighted by the roots of their areas, of one minus the soft Dice among
    the pixels nearest to each. defect: (N, H, W) in [0, 1]. target: (N, H, W), 0 or 1. nearest: of
    `nearest_defect`, with at least one defect over all processes."""
    own = torch.from_numpy(nearest).to(defect.device).flatten()
    inside = target.flatten() > 0
    none = torch.zeros(int(nearest.max()) + 1, device=defect.device)
    shared = none.index_add(0, own[inside], defect.flatten()[inside])[1:]
    area = none.index_add(0, own[inside], target.flatten()[inside])[1:]
    both = none.index_add(0, own, defect.flatten())[1:] + area
    weight = area.sqrt()
    return total((_dice(shared, both) * weight).sum()) / total(weight.sum())


def nearest_defect(is_defect: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each pixel of crops (N, H, W) the number of the defect, from 1 over all crops, to which
    it is nearest; 0 in a crop without one. A defect is what hangs together, corners included."""
    nearest = np.zeros(is_defect.shape, np.int64)
    before = 0
    for crop, own in zip(is_defect, nearest, strict=True):
        if not crop.any():
            continue
        _, numbers = cv2.distanceTransformWithLabels(
            np.logical_not(crop).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5
        )
        own[:] = numbers + before
        before += int(numbers.max())
    return nearest


def _dice(shared: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice, of the sums of products and of both. One pixel is added to each, so
    that nothing found where nothing is costs nothing."""
    return 1 - (2 * shared + 1) / (both + 1)
