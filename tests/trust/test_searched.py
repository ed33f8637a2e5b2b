from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.schema import ConvertConfig
from pipeline.errors import ConfigError, Faults
from pipeline.geometry.boxes import as_boxes
from pipeline.stages.convert_masks import convert_masks
from pipeline.trust.searched import by_anomalies, labelled_images, with_categories
from pipeline.types import Dataset, Detections, Image, ImageRecord

MakeProduct = Callable[..., Path]


class Bright:
    """Marks the same corner of every image, and has a heat map."""

    categories: tuple[str, ...] = ("defect",)

    def detect(self, image: Image) -> Detections:
        return Detections(as_boxes([[0, 0, 4, 4]]), np.array([0]), np.array([0.7], np.float32))

    def heatmap(self, image: Image) -> np.ndarray:
        return np.ones(image.shape[:2], np.float32)


def test_good_images_that_an_anomaly_model_may_know_are_left_out(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    """All defects of train and val count, of good images those of test that lie in no training
    folder of the source."""
    product = make_product({"crack": 8}, good_train=8, good_test=8)
    convert_masks([product], tmp_path / "data", ConvertConfig(group_by="none"))
    searched = by_anomalies(Bright(), tmp_path / "data", Faults())
    records = searched.truth.records
    learned = labelled_images(tmp_path / "data", ("train", "val"), Faults())
    defects = {r.file_name for r in learned.records if len(learned.on(r))}
    assert {r.file_name for r in records if len(searched.truth.on(r))} == defects
    good = [record for record in records if not len(searched.truth.on(record))]
    assert good
    assert all(r.split == "test" and r.source_split == "test" for r in good)
    assert len({record.id for record in records}) == len(records)
    assert searched.truth.categories == ("defect",)
    found, heatmap = searched.find(records[0], np.zeros((48, 64, 3), np.uint8))
    assert len(found) == 1
    assert heatmap is not None


def test_labels_of_other_categories_are_refused_and_others_are_numbered_as_the_detectors() -> None:
    record = ImageRecord(1, Path("a.png"), "a.png", 40, 40)
    objects = {1: Detections(as_boxes([[0, 0, 4, 4]]), np.array([0]))}
    truth = Dataset(("crack",), (record,), objects)
    assert with_categories(truth, ("stain", "crack")).on(record).labels.tolist() == [1]
    assert with_categories(truth, ("defect",)).on(record).labels.tolist() == [0]
    with pytest.raises(ConfigError, match="the detector has the categories stain, dent"):
        with_categories(truth, ("stain", "dent"))
