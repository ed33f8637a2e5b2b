"""SAM 2 with random weights of its architecture: the network, the file's checks, the option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.io.read import sha256_of
from pipeline.models import ultralytics_offline
from pipeline.models.sam.model import load_segmenter
from pipeline.models.sam.sam2 import Sam2Segmenter, load_sam2
from pipeline.models.sam.views import ViewOptions
from pipeline.models.weights.store import Entry, Weights, WeightsStore

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as Meta writes them: under `model`, with what only videos need."""
    ultralytics_offline.load()
    from ultralytics.models.sam.build import build_sam2_t

    torch.manual_seed(0)
    state = dict(build_sam2_t().state_dict())
    state["no_obj_embed_spatial"] = torch.zeros(1, 64)
    path = tmp_path_factory.mktemp("weights") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": state}, path)
    return path


def test_every_box_has_a_row_and_what_is_asked_of_a_mask_holds(published: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    boxes = as_boxes([[10, 10, 60, 60], [200, 10, 220, 30], [0, 0, 120, 90]])
    views = ViewOptions(margin=0.0, box_jitters=1, multimask=True)
    found = Sam2Segmenter(load_sam2(Weights("sam2.1_tiny", published, "")), views).segment(
        image, boxes, np.eye(90, 120, dtype=np.float32)
    )
    assert found.failed[1]
    for rle, box, failed in zip(found.masks, boxes, found.failed, strict=True):
        x0, y0, x1, y1 = mask_geometry.bounding_boxes([rle])[0]
        assert failed or (box[0] <= x0 and box[1] <= y0 and x1 <= box[2] and y1 <= box[3])
    assert all((column >= 0).all() and (column <= 1).all() for column in found.quality.values())


def test_it_is_opened_by_name_once_its_file_is_what_it_should_be(published: Path) -> None:
    digest = sha256_of(published)
    entry = Entry("sam2.1_tiny", published.name, "", "Apache-2.0", digest)
    store = WeightsStore(published.parent, {"sam2.1_tiny": entry})
    segmenter = load_segmenter("sam2.1_tiny", {}, CPU, store=store)
    assert (segmenter.name, segmenter.weights) == ("sam2.1_tiny", {"sam2.1_tiny": digest})
    image = np.zeros((40, 40, 3), np.uint8)
    assert len(segmenter.segment(image, as_boxes([[5, 5, 30, 30]])).masks) == 1


def test_an_unsupported_use_is_an_error(published: Path, tmp_path: Path) -> None:
    network = load_sam2(Weights("sam2.1_tiny", published, ""))
    with pytest.raises(ConfigError, match="sees whole images once"):
        Sam2Segmenter(network, ViewOptions(rounds=2))
    with pytest.raises(ConfigError, match="is no SAM 2"):
        load_sam2(Weights("sam_vit_b", published, ""))
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="does not fit"):
        load_sam2(Weights("sam2.1_tiny", tmp_path / "x.pt", ""))
