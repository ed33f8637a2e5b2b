"""What a network minimises: small defects count beside large ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.models.segmentation.losses import defect_dice, nearest_defect, segmentation_loss


def test_a_loss_without_a_defect_is_finite_and_one_of_right_logits_is_small() -> None:
    """Right: margin 20 on each pixel. Wrong: -20, 20 of cross entropy and 1 of Dice."""
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    right = torch.stack([torch.full((1, 4, 4), 20.0), torch.zeros(1, 4, 4)], dim=1)
    assert segmentation_loss(right, labels) == pytest.approx(0, abs=1e-3)
    labels += 1
    assert segmentation_loss(right.flip(1), labels) == pytest.approx(0, abs=1e-3)
    assert segmentation_loss(right, labels) == pytest.approx(20 + 1 - 1 / 17, abs=1e-2)


def test_categories_count_on_defects_alone() -> None:
    """Of two categories as likely as each other, the term is 0.5 x log 2."""
    labels = torch.tensor([[[1, 0]]])
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, :, 0, 0] = torch.tensor([-20.0, 10.0, 10.0])
    logits[0, :, 0, 1] = torch.tensor([20.0, -20.0, -20.0])
    even = float(segmentation_loss(logits, labels))
    assert even == pytest.approx(0.5 * math.log(2), abs=1e-3)
    logits[0, 1, 0, 1], logits[0, 2, 0, 1] = -30.0, -20.0  # on background: nothing changes
    assert float(segmentation_loss(logits, labels)) == pytest.approx(even, abs=1e-3)
    logits[0, 1, 0, 0] = 20.0
    assert float(segmentation_loss(logits, labels)) == pytest.approx(0, abs=1e-3)


def test_each_pixel_belongs_to_the_nearest_defect_of_its_crop() -> None:
    """Numbers go on from crop to crop; a crop without a defect has 0. Defects that touch at a
    corner are one."""
    crops = np.zeros((3, 4, 8), np.bool_)
    assert not nearest_defect(crops).any()
    crops[0, 1, 1] = crops[0, 2, 7] = True
    crops[2, 0, 0] = crops[2, 1, 1] = True
    nearest = nearest_defect(crops)
    assert nearest[0, 1].tolist() == [1, 1, 1, 1, 1, 2, 2, 2]  # columns 1 and 7, one row apart
    assert not nearest[1].any()
    assert (nearest[2] == 3).all()


def test_a_defect_weighs_as_the_root_of_its_area() -> None:
    """One of 1 pixel and one of 64, with the weights 1 and 8. Missed, the small one has a loss of
    1 - 1 / (1 + 1) = 1/2, the large one of 1 - 1 / (64 + 1) = 64/65."""
    target = torch.zeros(1, 16, 32)
    target[0, 2, 2] = 1
    target[0, 4:12, 20:28] = 1
    nearest = nearest_defect(target.numpy() > 0)
    small, large = target.clone(), target.clone()
    small[0, :, 16:] = 0
    large[0, :, :16] = 0
    assert float(defect_dice(target, target, nearest)) == pytest.approx(0)
    assert float(defect_dice(small, target, nearest)) == pytest.approx(8 / 9 * 64 / 65)
    assert float(defect_dice(large, target, nearest)) == pytest.approx(1 / 9 * 1 / 2)


def test_a_false_alarm_costs_the_defect_that_is_nearest_to_it() -> None:
    """3 false pixels beside a defect of 4, found whole: 1 - (2 x 4 + 1) / (4 + 7 + 1) = 1 / 4."""
    target = torch.zeros(1, 4, 12)
    target[0, :2, :2] = 1
    found = target.clone()
    found[0, 3, 9:] = 1
    nearest = nearest_defect(target.numpy() > 0)
    assert float(defect_dice(found, target, nearest)) == pytest.approx(1 / 4)
