from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import ConvertConfig
from pipeline.errors import DataError
from pipeline.io.images import write_png
from pipeline.results import from_json
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.stats import (
    CategoryStats,
    Difference,
    PublishedTable,
    Spread,
    StatsResult,
    stats,
)
from pipeline.synthesis.product import MVTEC_ZIPPER

MakeProduct = Callable[..., Path]


@pytest.mark.slow
def test_counts_areas_and_the_long_tail_are_reported(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 6, "stain": 2}, good_train=3, good_test=1)
    found = stats(product, tmp_path / "pictures")
    assert found.images == 12
    assert found.splits == {"test": 9, "train": 3}
    assert found.good_images == 4
    assert found.sizes == {"64x48": 12}
    assert found.categories["crack"] == CategoryStats(
        images=6, instances=6, area_px=Spread(min=24, median=24, max=24)
    )
    assert found.long_tail_ratio == 3.0
    assert from_json(StatsResult, found.to_json(), tmp_path) == found
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {
        "images_per_category.png",
        "instance_sizes.png",
        "run.json",
        "manifest.jsonl",
    }
    stats(product, tmp_path / "pictures")  # its own pictures may be replaced


def test_stats_puts_no_picture_among_a_persons_own(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    own = tmp_path / "mine" / "images_per_category.png"
    own.parent.mkdir()
    own.write_bytes(b"my picture")
    with pytest.raises(DataError, match="holds files that this command did not write"):
        stats(make_product(), own.parent)
    assert own.read_bytes() == b"my picture"


def test_a_coco_file_has_the_same_figures(make_product: MakeProduct, tmp_path: Path) -> None:
    product = make_product()
    convert_masks([product], tmp_path / "out", ConvertConfig())
    one, two = stats(product), stats(tmp_path / "out" / "annotations" / "instances.json")
    assert (one.layout, two.layout) == ("MVTec AD", "COCO")
    assert replace(one, layout="") == replace(two, layout="")


@pytest.mark.slow
def test_the_original_zippers_counts_agree_with_the_published_table(tmp_path: Path) -> None:
    """A folder with MVTec AD's own counts and size, its images black to be quick."""
    root = tmp_path / "zipper"
    black, spot = np.zeros((1024, 1024), np.uint8), np.zeros((1024, 1024), np.uint8)
    spot[500:510, 500:510] = 255
    write_png(root / "black.png", black)
    write_png(root / "spot.png", spot)

    def link(count: int, folder: str, name: str, source: str) -> None:
        (root / folder).mkdir(parents=True)
        for index in range(count):
            (root / folder / name.format(index)).hardlink_to(root / source)

    link(240, "train/good", "{:03d}.png", "black.png")
    link(32, "test/good", "{:03d}.png", "black.png")
    for defect, count in MVTEC_ZIPPER.items():
        link(count, f"test/{defect}", "{:03d}.png", "black.png")
        link(count, f"ground_truth/{defect}", "{:03d}_mask.png", "spot.png")
    found = stats(root, published="mvtec-zipper")
    assert found.published_table == PublishedTable(name="mvtec-zipper", agrees=True, differences=())
    assert (found.images, len(found.categories)) == (391, 7)
    (root / "test" / "rough" / "000.png").unlink()
    (root / "ground_truth" / "rough" / "000_mask.png").unlink()
    compared = stats(root, published="mvtec-zipper").published_table
    assert compared is not None
    assert not compared.agrees
    assert Difference(name="rough", measured="16", published="17") in compared.differences


def test_the_name_of_a_folder_changes_nothing(make_product: MakeProduct) -> None:
    assert stats(make_product(name="zipper")) == stats(make_product(name="widget"))
