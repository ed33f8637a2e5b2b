"""Photos and label maps at the size at which a network sees them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from segmenters import Block, blocks_of, drawn_photo

from pipeline.errors import DataError
from pipeline.geometry.masks import encode
from pipeline.io.images import write_png
from pipeline.models.segmentation import photos as module
from pipeline.models.segmentation.photos import (
    LabelledPhoto,
    ScaledPhotos,
    choose_scale,
    defect_width,
    label_map,
    photos_of,
    scaled_size,
    with_masks,
)
from pipeline.types import Detections, ImageRecord


def listed(size: tuple[int, int], *blocks: Block) -> LabelledPhoto:
    """A photo whose file nobody reads."""
    return LabelledPhoto(ImageRecord(1, Path("a.png"), "a.png", *size), blocks_of(size, blocks))


def test_no_photo_is_not_shrunk_and_gives_none() -> None:
    assert photos_of([]) == []
    assert choose_scale([]) == 1.0
    assert with_masks([], 3, 0) == []
    assert len(ScaledPhotos([], 1.0)) == 0


@pytest.mark.parametrize(
    ("shape", "width"), [((0, 0), 0), ((1, 1), 1), ((1, 30), 1), ((5, 20), 5), ((9, 9), 9)]
)
def test_the_width_of_a_bar_is_its_shorter_side(shape: tuple[int, int], width: int) -> None:
    mask = np.zeros((40, 40), bool)
    mask[3 : 3 + shape[0], 3 : 3 + shape[1]] = True
    assert defect_width(encode(mask)) == width


@pytest.mark.parametrize(
    ("side", "width", "scale"),
    [
        (1024, 201, 100 / 201),  # defects get 100 pixels
        (1024, 51, 1.0),  # they have less: a photo of this side is not enlarged
        (800, 51, 1024 / 800),  # a smaller one is, to that side
        (512, 81, 100 / 81),  # as far as 100 pixels ask for
        (512, 5, 1.5),  # and by half at most
        (1024, 801, 256 / 1024),  # over half of the image: its side keeps 256 pixels
        (200, 151, 1.0),  # it has less
    ],
)
def test_photos_are_resized_until_a_wide_defect_has_a_hundred_pixels(
    side: int, width: int, scale: float
) -> None:
    photo = listed((side, side), (0, 10, 10, 10 + width, 10 + width))
    assert choose_scale([photo]) == pytest.approx(scale)


@pytest.mark.parametrize(("thin", "scale"), [(17, 8 / 17), (11, 8 / 11), (5, 1.0)])
def test_thin_defects_among_wide_ones_keep_eight_pixels(thin: int, scale: float) -> None:
    """Half of the defects are 601 wide: 100 / 601 is less than all three."""
    photos = [listed((1024, 1024), (0, 10, 10, 10 + side, 10 + side)) for side in (thin, 601)]
    assert choose_scale(photos * 5) == pytest.approx(scale)


def test_one_thin_defect_of_many_does_not_choose_the_scale_alone() -> None:
    """Of 21 defects one has 1 pixel: the tenth of the widths, place 2 of 0 to 20, is 401."""
    wide = [listed((1024, 1024), (0, 10, 10, 411, 411)) for _ in range(20)]
    thin = listed((1024, 1024), (0, 10, 10, 11, 11))
    assert choose_scale([*wide, thin]) == pytest.approx(256 / 1024)


def test_of_objects_that_overlap_the_smaller_is_on_top() -> None:
    small, large = (0, 4, 4, 6, 6), (1, 2, 2, 10, 10)
    for blocks in ((small, large), (large, small)):
        labels = label_map(blocks_of((12, 12), blocks), (12, 12))
        assert (labels == 1).sum() == 4
        assert (labels == 2).sum() == 64 - 4
        assert labels[5, 5] == 1


def test_a_label_map_holds_more_than_255_categories() -> None:
    labels = label_map(blocks_of((8, 8), [(299, 2, 2, 4, 4)]), (8, 8))
    assert sorted(set(labels.ravel().tolist())) == [0, 300]


def test_a_label_map_without_objects_is_background() -> None:
    assert not label_map(Detections.none(), (5, 7)).any()


def test_a_photo_and_its_label_map_are_of_one_size(tmp_path: Path) -> None:
    photo = drawn_photo(tmp_path / "a.png", (61, 83), [(0, 20, 20, 40, 40)])
    scaled = ScaledPhotos([photo], 0.5)
    image, labels = scaled.get(0)
    assert image.shape[:2] == labels.shape == scaled.size(0) == scaled_size((61, 83), 0.5)
    assert image[labels == 1].mean() > image[labels == 0].mean() + 100


def test_grey_and_16_bit_photos_are_colour_photos_of_8_bits(tmp_path: Path) -> None:
    grey, deep = tmp_path / "grey.png", tmp_path / "deep.png"
    write_png(grey, np.full((40, 50), 100, np.uint8))
    cv2.imwrite(str(deep), np.full((40, 50), 100 * 257, np.uint16))
    for path in (grey, deep):
        photo = LabelledPhoto(ImageRecord(1, path, path.name, 40, 50), Detections.none())
        image, _ = ScaledPhotos([photo], 1.0).get(0)
        assert image.shape == (40, 50, 3)
        assert image.dtype == np.uint8
        assert (image == 100).all()


def test_a_photo_of_another_size_than_listed_is_refused(tmp_path: Path) -> None:
    """Its masks would lie elsewhere."""
    drawn_photo(tmp_path / "a.png", (40, 40))
    record = ImageRecord(1, tmp_path / "a.png", "a.png", 40, 60)
    with pytest.raises(DataError, match="is 40x40, but listed as 60x40"):
        ScaledPhotos([LabelledPhoto(record, Detections.none())], 1.0).get(0)


def test_photos_leave_memory_when_others_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo has 40 x 40 x (3 + 2) = 8,000 bytes: two fit."""
    monkeypatch.setattr(module, "_MEMORY", 16_000)
    photos = [drawn_photo(tmp_path / f"{number}.png", (40, 40)) for number in range(3)]
    scaled = ScaledPhotos(photos, 1.0)
    first, second = scaled.get(0), scaled.get(1)
    assert scaled.get(0) is first
    scaled.get(2)  # the second was not used for longest
    assert scaled.get(0) is first
    assert scaled.get(1) is not second


def test_photos_are_drawn_until_they_have_the_masks_and_good_ones_stay() -> None:
    """Photos of 2 masks each: 3 masks need two of them."""
    pair = ((0, 2, 2, 4, 4), (1, 6, 6, 8, 8))
    photos = [*(listed((10, 10), *pair) for _ in range(4)), listed((10, 10)), listed((10, 10))]
    chosen = with_masks(photos, 3, seed=0)
    assert sum(len(photo.objects) for photo in chosen) == 4
    assert sum(not len(photo.objects) for photo in chosen) == 2
    assert with_masks(photos, 99, seed=0) == photos
