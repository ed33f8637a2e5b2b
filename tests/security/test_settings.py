"""Settings and split files of any content: one line that names the key."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.config.load import build, parse_settings, read_yaml
from pipeline.config.schema import (
    ConvertConfig,
    FinetuneSamConfig,
    RunConfig,
    SegmentConfig,
    SynthesizeConfig,
    ViewsConfig,
)
from pipeline.errors import ConfigError, DataError
from pipeline.splits import allot, read_split
from pipeline.types import Dataset, ImageRecord


def one_image(folder: Path) -> Dataset:
    record = ImageRecord(1, folder / "a.png", "a.png", 4, 6, "p", "test", "crack", group="g")
    return Dataset(("crack",), (record,))


@pytest.mark.parametrize(
    "content",
    [
        [], {"parts": []}, {"parts": {"p/test/crack/a.png": 3}},
        {"parts": {"p/test/crack/a.png": None}}, {"parts": {"p/test/crack/a.png": ["train"]}},
        {"parts": {"p/test/crack/a.png": "\ud800"}}, {"parts": {}}, 7,
    ],
)  # fmt: skip
def test_a_split_of_other_values_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"split\.json"):
        read_split(path, one_image(tmp_path))


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_shares_that_are_no_shares_are_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ConfigError, match="shares must be positive"):
        allot(one_image(tmp_path).records, {"train": 0.5, "val": share}, 0)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (ConvertConfig, "seed=-1", "seed: input should be greater than or equal to 0"),
        (ConvertConfig, f"seed={2**32}", "seed: input should be less than"),
        (ConvertConfig, "val=.nan", "val"),
        (ConvertConfig, "val=-0.1", "val"),
        (ConvertConfig, "val=0.6,test=0.4", "val 0.6 and test 0.4 leave train nothing"),
        (ConvertConfig, "folds=1000000000", "folds"),
        (SegmentConfig, "cache_gb=.inf", "cache_gb: input should be a finite number"),
        (SegmentConfig, "cache_gb=1e300", "cache_gb"),
        (SegmentConfig, 'sam="a\\0b"', "sam: has a character"),
        (ViewsConfig, "pad=.inf", "pad"),
        (ViewsConfig, "crop_scales=[.inf]", "crop_scales.0"),
        (FinetuneSamConfig, "learning_rate=.inf", "learning_rate"),
        (RunConfig, "finetune.workers=-1", "finetune.workers"),
        (RunConfig, "finetune.fold=-1", "finetune.fold"),
        (RunConfig, "convert.val=0.9,convert.test=0.9", "convert: val 0.9 and test 0.9"),
        (RunConfig, "finetune.augmentations=[{name: A, sigma: .inf}]", "augmentations"),
        (RunConfig, ".".join(["a"] * 5000) + "=1", "unknown key: 'a'"),
        (SynthesizeConfig, "per_defect=" + "9" * 4000, "per_defect"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_one_line(
    kind: type, settings: str, message: str
) -> None:
    separate = [settings] if "[" in settings else settings.split(",")
    with pytest.raises(ConfigError) as caught:
        build(kind, parse_settings(separate))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"a: &a [*a]", b"? [1]\n: 2", b"[" * 600, b"1: 2", b"a: " + b"9" * 5000,
     b"a: !!python/name:os.system", b"a: 2001-99-99"],
)  # fmt: skip
def test_a_settings_file_of_any_bytes_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        build(RunConfig, read_yaml(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_settings_file_that_is_a_pipe_or_missing_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            read_yaml(path)
