"""Caches that are full, for reading only, or could be filled by others: the work goes on."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.io import cache_root as root_module
from pipeline.io.cache_root import NOWHERE, cache_root, prepared_folder, use_for_matplotlib
from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.io.write import writing_below
from pipeline.models import ultralytics_offline
from pipeline.models.weights.store import weights_folder

BIG = 1 << 30


def test_there_is_one_root_for_all_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIPELINE_CACHE", "PIPELINE_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == tmp_path / ".cache" / "defect-pipeline"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert weights_folder() == tmp_path / "x" / "defect-pipeline" / "weights"
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "y"))
    assert cache_root() == tmp_path / "y"


def test_matplotlib_keeps_its_fonts_below_the_root_unless_the_user_chose_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "own"))
    use_for_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "own")
    monkeypatch.delenv("MPLCONFIGDIR")
    use_for_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "cache" / "matplotlib")


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whom nobody knows: no $HOME, and no line in passwd. Its temporary folder."""

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("PIPELINE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path / f"defect-pipeline-{os.getuid()}"


def test_a_user_without_a_home_has_a_folder_that_nobody_else_can_enter(homeless: Path) -> None:
    assert cache_root() == homeless
    assert homeless.stat().st_mode & 0o777 == 0o700
    assert cache_root() == homeless


def _somebody_elses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    own = os.getuid()
    monkeypatch.setattr(root_module, "_user", lambda: own + 1)
    folder.rename(folder.with_name(f"defect-pipeline-{own + 1}"))


def _open_to_all(folder: Path, _: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _a_link(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder.parent / "theirs").mkdir(mode=0o700)
    folder.symlink_to(folder.parent / "theirs")


@pytest.mark.parametrize("planted", [_somebody_elses, _open_to_all, _a_link])
def test_a_folder_that_another_could_fill_is_not_used(
    homeless: Path,
    monkeypatch: pytest.MonkeyPatch,
    notices: list[str],
    planted: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    planted(homeless, monkeypatch)
    assert cache_root() == NOWHERE
    cache = DiskCache(cache_root() / "kept", BIG)
    cache.put(key_of("x"), b"x")
    assert cache.get(key_of("x")) is None
    assert len(notices) == 1


def test_a_full_disk_costs_one_notice_that_blames_no_option(
    tmp_path: Path, notices: list[str], full_disk: None
) -> None:
    for _ in range(2):
        cache = DiskCache(tmp_path / "kept", BIG)
        cache.put(key_of("x"), b"x")
        assert cache.get(key_of("x")) is None
    assert len(notices) == 1
    assert "No space left on device" in notices[0]
    assert "--output" not in notices[0]


@pytest.mark.parametrize("planted", ["a file", "a link to itself", "a link to a file"])
def test_what_stands_where_the_cache_should_be_ends_nothing(
    tmp_path: Path, notices: list[str], planted: str
) -> None:
    folder = tmp_path / "kept"
    if planted == "a link to itself":
        folder.symlink_to(folder)
    else:
        (tmp_path / "file").write_bytes(b"mine")
        folder.symlink_to(tmp_path / "file")
    cache = DiskCache(folder, BIG)
    cache.put(key_of("x"), b"x")
    assert cache.get(key_of("x")) is None
    assert len(notices) == 1


def test_a_cache_for_reading_only_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    cache = DiskCache(tmp_path, BIG)
    cache.put(key_of("x"), b"x")
    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    assert cache.get(key_of("x")) == b"x"


def test_entries_are_kept_while_an_output_folder_is_open(
    tmp_path: Path, notices: list[str]
) -> None:
    cache = DiskCache(tmp_path / "kept", BIG)
    with writing_below(tmp_path / "out"):
        cache.put(key_of("x"), b"x")
    assert cache.get(key_of("x")) == b"x"
    assert not notices


def test_a_folder_for_others_falls_back_to_one_of_this_process(
    tmp_path: Path, notices: list[str]
) -> None:
    def prepare(folder: Path) -> None:
        (folder / "font").write_bytes(b"x")

    assert prepared_folder(tmp_path / "a", prepare) == tmp_path / "a"
    (tmp_path / "file").write_bytes(b"")
    own = prepared_folder(tmp_path / "file" / "a", prepare)
    assert (own / "font").read_bytes() == b"x"
    assert len(notices) == 1


def test_ultralytics_goes_on_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "file"))
    monkeypatch.delenv("YOLO_CONFIG_DIR", raising=False)
    ultralytics_offline.load()
    assert (Path(os.environ["YOLO_CONFIG_DIR"]) / "Ultralytics" / "Arial.ttf").is_file()
    assert len(notices) == 1
