"""Kept defect maps: as predicted, of these networks and this image alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.io.disk_cache import DiskCache
from pipeline.models.segmentation import map_cache
from pipeline.models.segmentation.defect_map import DefectMap
from pipeline.models.segmentation.map_cache import MapCache
from pipeline.models.segmentation.network import NetworkOptions, SegmentationNetwork
from pipeline.types import Image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskCache]:
    own = DiskCache(tmp_path, 1 << 24)
    monkeypatch.setattr(map_cache, "disk_cache", lambda _: own)
    yield own


def networks(count: int = 2, seed: int = 0) -> list[SegmentationNetwork]:
    torch.manual_seed(seed)
    return [SegmentationNetwork(NetworkOptions("mobilenet_v2", 2)) for _ in range(count)]


def image(seed: int = 0, size: tuple[int, int] = (5, 7)) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


class Predictor:
    """Gives a map that depends on how often it was asked."""

    def __init__(self, size: tuple[int, int] = (5, 7), categories: int = 2) -> None:
        self.size, self.categories, self.calls = size, categories, 0

    def __call__(self) -> DefectMap:
        self.calls += 1
        generator = np.random.default_rng(self.calls)
        defect = generator.integers(0, 256, self.size, np.uint8)
        category = generator.integers(0, self.categories, self.size)
        if self.categories <= 256:
            return DefectMap(defect, category.astype(np.uint8), self.categories)
        return DefectMap(defect, category.astype(np.uint16), self.categories)


@pytest.mark.parametrize("categories", [1, 2, 300])
def test_the_map_of_a_photo_is_predicted_once(categories: int) -> None:
    predict = Predictor(categories=categories)
    first = MapCache(networks(), "scale 1", 20.0).get(image(), (0, 1), categories, predict)
    again = MapCache(networks(), "scale 1", 20.0).get(image(), (0, 1), categories, predict)
    assert predict.calls == 1
    assert np.array_equal(first.defect, again.defect)
    assert np.array_equal(first.category, again.category)
    assert first.category.dtype == again.category.dtype
    again.defect[0, 0] = 0  # a caller may change it


def test_another_photo_network_or_scale_has_a_map_of_its_own() -> None:
    predict = Predictor()
    MapCache(networks(), "scale 1", 20.0).get(image(), (0, 1), 2, predict)
    MapCache(networks(), "scale 1", 20.0).get(image(1), (0, 1), 2, predict)
    MapCache(networks(), "scale 1", 20.0).get(image(), (0,), 2, predict)
    MapCache(networks(), "scale 2", 20.0).get(image(), (0, 1), 2, predict)
    MapCache(networks(seed=1), "scale 1", 20.0).get(image(), (0, 1), 2, predict)
    assert predict.calls == 5


@pytest.mark.parametrize(
    "planes",
    [b"", bytes(69), bytes(71), bytes(35) + b"\x02" * 35],  # of 35 pixels 70 bytes, categories 0, 1
    ids=["empty", "short", "long", "a third category"],
)
def test_an_entry_that_is_no_map_of_the_photo_is_predicted_again(
    planes: bytes, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "get", lambda _: zlib.compress(planes))
    predict = Predictor()
    assert MapCache(networks(), "", 20.0).get(image(), (0,), 2, predict).size == (5, 7)
    assert predict.calls == 1


def test_an_entry_that_is_not_packed_is_predicted_again(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "get", lambda _: b"not packed")
    predict = Predictor()
    MapCache(networks(), "", 20.0).get(image(), (0,), 2, predict)
    assert predict.calls == 1


def test_a_cache_of_no_size_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        map_cache, "disk_cache", lambda gigabytes: DiskCache(tmp_path, int(gigabytes))
    )
    predict = Predictor()
    for _ in range(2):
        MapCache(networks(), "", 0).get(image(), (0,), 2, predict)
    assert predict.calls == 2
    assert not any(tmp_path.iterdir())


def test_the_map_of_a_large_photo_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_cache, "_MOST_PIXELS", 34)
    predict = Predictor()
    for _ in range(2):
        MapCache(networks(), "", 20.0).get(image(), (0,), 2, predict)
    assert predict.calls == 2
