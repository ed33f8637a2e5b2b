"""Masks and label maps that were saved as JPEG."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from small import CallPipeline

import pipeline
from pipeline.config.labels import ConvertConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.layouts.mask_folders import FolderListing, MaskFolders, read_mask_folders
from pipeline.formats.record_masks import InstanceOptions, read_instances
from pipeline.geometry.lossy_masks import counted, flat_counted, modes, snapped, threshold_between
from pipeline.geometry.masks import area
from pipeline.io.images import write_png
from pipeline.stages.convert_masks import convert_masks

SIZE = (80, 96)
LEFT = (slice(20, 50), slice(20, 40))  # 30 x 20 = 600 pixels
RIGHT = (slice(20, 50), slice(56, 76))  # the same
BOTH = 600


def jpeg(path: Path, values: np.ndarray, quality: int = 75) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values, [cv2.IMWRITE_JPEG_QUALITY, quality])


def drawn(left: int = 255, right: int = 255) -> np.ndarray:
    values = np.zeros(SIZE, np.uint8)
    values[LEFT], values[RIGHT] = left, right
    return values


def photo(path: Path) -> None:
    write_png(path, np.full((*SIZE, 3), 90, np.uint8))


def folders(root: Path, *masks: np.ndarray, quality: int = 75) -> Path:
    for number, values in enumerate(masks):
        photo(root / "images" / f"{number}.png")
        jpeg(root / "masks" / f"{number}.jpg", values, quality)
    return root


def read(root: Path, **options: str | int) -> FolderListing:
    pair = MaskFolders(root / "images", root / "masks", **options)  # type: ignore[arg-type]
    return read_mask_folders(pair, Faults())


def found(listing: FolderListing, threshold: int | None = None) -> list[list[tuple[str, int]]]:
    """Category and area of the instances of each image."""
    rows = []
    for record in listing.dataset.records:
        own = read_instances(record, InstanceOptions(threshold))
        pairs = zip(own.categories, own.patches, strict=True)
        rows.append([(category, patch.area) for category, patch in pairs])
    return rows


def test_no_value_has_no_threshold_and_no_mode() -> None:
    assert threshold_between(counted(np.zeros((0, 0), np.uint8))) == 0
    assert threshold_between(counted(np.zeros(SIZE, np.uint8))) == 0
    assert modes(flat_counted(np.zeros(SIZE, np.uint8))) == ()


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_what_jpeg_adds_around_defects_is_no_defect(tmp_path: Path, quality: int) -> None:
    listing = read(folders(tmp_path, drawn(), drawn(0, 0), quality=quality))
    assert found(listing) == [[("defect", BOTH), ("defect", BOTH)], []]
    (ringing,) = found(listing, threshold=0)[:1]
    assert sum(pixels for _, pixels in ringing) > 2 * BOTH  # what threshold 0 would take
    assert [record.defect for record in listing.dataset.records] == ["defect", "good"]
    assert any("values above 127 are defect; another --mask-threshold" in note
               for note in listing.notes)  # fmt: skip


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_mask_that_is_read_alone_is_cut_as_convert_masks_cuts_it(
    tmp_path: Path, quality: int
) -> None:
    jpeg(tmp_path / "a.jpg", drawn(), quality)
    mask = pipeline.read_mask(tmp_path / "a.jpg")
    assert (mask == (drawn() > 0)).all()
    assert pipeline.read_mask(tmp_path / "a.jpg", 0).sum() > mask.sum()
    assert [area(rle) for rle in pipeline.mask_instances(tmp_path / "a.jpg")] == [BOTH, BOTH]


def test_a_mask_without_a_defect_or_loss_is_cut_at_zero(tmp_path: Path) -> None:
    jpeg(tmp_path / "black.jpg", drawn(0, 0))
    assert not pipeline.read_mask(tmp_path / "black.jpg").any()
    write_png(tmp_path / "faint.png", drawn(1, 2))
    assert pipeline.read_mask(tmp_path / "faint.png").sum() == 2 * BOTH


def test_a_given_threshold_wins(tmp_path: Path) -> None:
    root = folders(tmp_path, drawn(255, 100))
    assert len(found(read(root, meaning="defect"))[0]) == 2
    listing = read(root, meaning="defect", threshold=200)
    assert found(listing, threshold=200) == [[("defect", BOTH)]]
    assert not any("JPEG" in note for note in listing.notes)


def test_png_masks_beside_jpeg_masks_keep_every_pixel(tmp_path: Path) -> None:
    root = folders(tmp_path, drawn())
    photo(root / "images" / "p.png")
    write_png(root / "masks" / "p.png", drawn(255, 1))
    listing = read(root, meaning="defect")
    assert found(listing)[1] == [("defect", BOTH), ("defect", BOTH)]


def test_a_product_with_jpeg_masks_is_cut_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "widget"
    for name in ("train/good/0", "test/good/0", "test/crack/0", "test/crack/1"):
        photo(root / f"{name}.png")
    for number in (0, 1):
        jpeg(root / "ground_truth" / "crack" / f"{number}_mask.jpg", drawn())
    config = ConvertConfig(group_by="none")
    result = convert_masks([root], tmp_path / "out", config, workers=1)
    assert result.pixels_in_masks == 4 * BOTH
    assert "2 masks are JPEG" in " ".join(result.notes)
    given = config.model_copy(update={"mask_threshold": 0})
    assert convert_masks([root], tmp_path / "all", given, workers=1).pixels_in_masks > 4 * BOTH


def test_stats_says_the_threshold_too(tmp_path: Path, call_pipeline: CallPipeline) -> None:
    for name in ("test/good/0", "test/crack/0"):
        photo(tmp_path / f"{name}.png")
    jpeg(tmp_path / "ground_truth" / "crack" / "0_mask.jpg", drawn())
    ended = call_pipeline("stats", tmp_path)
    assert "instances: 2" in ended.stdout
    assert "values above 127 are defect" in ended.stderr


def test_a_label_map_has_the_values_that_it_had_before(tmp_path: Path) -> None:
    listing = read(folders(tmp_path, drawn(85, 170), drawn(170, 85)))
    assert listing.dataset.categories == ("170", "85")
    assert found(listing) == [[("85", BOTH), ("170", BOTH)], [("85", BOTH), ("170", BOTH)]]
    named = read(tmp_path, categories="85=pit,170=")
    assert found(named) == [[("pit", BOTH)], [("pit", BOTH)]]


def test_the_edge_of_a_bright_region_is_no_rim_of_another_category() -> None:
    """Half-way from 0 to 255 is near 128, which only the other region has."""
    values = drawn(255, 128)
    _, data = cv2.imencode(".jpg", values)
    read_back = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    assert (snapped(read_back, [0, 128, 255]) == values).all()


def test_values_that_jpeg_mixes_are_refused(tmp_path: Path) -> None:
    root = folders(tmp_path, drawn(1, 3), quality=95)
    with pytest.raises(DataError, match=r"masks are JPEG, and the values 0 to \d are too near"):
        read(root)


def test_a_region_too_thin_to_have_an_inside_is_refused(tmp_path: Path) -> None:
    thin = drawn(0, 255)
    thin[10:70, 10] = 128
    root = folders(tmp_path, drawn(128, 255), thin, quality=95)
    with pytest.raises(DataError, match=r"1\.jpg: is JPEG, and \d+ pixels fit no value near them"):
        found(read(root))


def test_colours_and_numbers_of_instances_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[LEFT], colours[RIGHT] = (0, 0, 255), (0, 255, 0)
    with pytest.raises(DataError, match=r"0\.jpg: is a JPEG of several colours"):
        read(folders(tmp_path / "colours", colours))
    root = folders(tmp_path / "numbers", drawn(100, 200))
    with pytest.raises(DataError, match="keeps no numbers of instances; save it as PNG"):
        found(read(root, meaning="instances"))


def test_one_colour_is_a_defect(tmp_path: Path) -> None:
    red = np.zeros((*SIZE, 3), np.uint8)
    red[LEFT] = (0, 0, 255)
    ((only,),) = found(read(folders(tmp_path, red)))
    assert only[0] == "defect"
    assert only[1] == pytest.approx(BOTH, abs=60)  # JPEG keeps colours at half the size


def test_a_broken_jpeg_mask_is_named(tmp_path: Path) -> None:
    root = folders(tmp_path, drawn())
    path = root / "masks" / "0.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"0\.jpg"):
        read(root)
