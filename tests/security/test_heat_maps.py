"""Heat maps that are no such thing, or claim to be huge."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.io.heatmaps import read_heatmap


def npy(array: Any, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def claim(shape: str, kind: str = "'<f4'") -> bytes:
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros((4, 4)))
    return stream.getvalue()


HEAT_MAPS = {
    "empty": b"",
    "text": b"no array",
    "archive": archive(),
    "cut": npy(np.zeros((4, 4)))[:-1],
    "header alone": npy(np.zeros((4, 4)))[:128],
    "objects": npy(np.array([[{}]], object), allow_pickle=True),
    "structured": npy(np.zeros((4, 4), [("a", "f4")])),
    "complex": npy(np.zeros((4, 4), complex)),
    "text array": npy(np.full((4, 4), "a")),
    "dates": npy(np.zeros((4, 4), "M8[s]")),
    "no pixel": npy(np.zeros((0, 4))),
    "one axis": npy(np.zeros(4)),
    "three axes": npy(np.zeros((4, 4, 1))),
    "not a number": npy(np.full((4, 4), np.nan, np.float32)),
    "infinite": npy(np.full((4, 4), -np.inf)),
    "too great for 32 bits": npy(np.full((4, 4), 1e300)),
    "a million million": claim("(1000000, 1000000)"),
    "beyond 64 bits": claim("(99999999999999999999, 99999999999999999999)"),
    "less than nothing": claim("(-4, -4)"),
    "no shape": claim("'a'"),
    "code": claim("__import__('os').mkdir('x')"),
    "deep": claim("(" * 900 + ")" * 900),
    "a header of two gigabytes": b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + bytes(64),
    "another version": b"\x93NUMPY\x09\x00" + bytes(64),
}


@pytest.mark.parametrize("content", HEAT_MAPS.values(), ids=HEAT_MAPS.keys())
def test_what_is_no_heat_map_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy: ") as error:
        read_heatmap(tmp_path, "a.png", (4, 4))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8", "u1", ">i4", "?"])
def test_numbers_of_every_kind_and_order_are_a_heat_map(tmp_path: Path, kind: str) -> None:
    values = np.asfortranarray(np.arange(12).reshape(3, 4) % 2).astype(kind)
    np.save(tmp_path / "a.npy", values)
    assert (read_heatmap(tmp_path, "a.png", (3, 4)) == values).all()


@pytest.mark.parametrize("name", ["", "../a.png", "/etc/a.png", "b/../../a.png", "a\0.png"])
def test_a_heat_map_is_not_taken_from_elsewhere(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    (tmp_path / "maps").mkdir()
    with pytest.raises(DataError, match="the name leads outside"):
        read_heatmap(tmp_path / "maps", name, (4, 4))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, folder, device])
@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_a_heat_map_that_is_no_file_is_refused_at_once(
    tmp_path: Path, suffix: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / f"b{suffix}")
    with pytest.raises(DataError, match="is not a regular file"):
        read_heatmap(tmp_path, "b.jpg", (2, 2))
