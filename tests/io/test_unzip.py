"""Zip files of strangers: what is unpacked, and what is refused before a byte is written."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.io.unzip import is_zip, unpack


def zipped(path: Path, *names: str, data: bytes = b"content") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)
    return path


def unpacked(path: Path, folder: Path) -> list[str]:
    unpack(path, folder, {".png", ".xml"})
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], []),
        (["annotations.xml", "images/Train/a.PNG"], ["annotations.xml", "images/Train/a.PNG"]),
        (["images/", "a.sh", "b.png.exe", "c"], []),
        (["images\\a.png"], ["images/a.png"]),
        (["images/fl\u00e4che.png"], ["images/fl\u00e4che.png"]),
    ],
)
def test_files_of_the_suffixes_are_unpacked(
    tmp_path: Path, names: list[str], found: list[str]
) -> None:
    path = zipped(tmp_path / "a.zip", *names)
    assert is_zip(path)
    assert unpacked(path, tmp_path / "out") == found


def test_a_name_in_utf8_that_does_not_say_so_is_read(tmp_path: Path) -> None:
    path, raw = tmp_path / "a.zip", "fl\u00e4che.png".encode()
    data = zipped(path, "x" * len(raw)).read_bytes()  # zipfile sets the flag for other names
    path.write_bytes(data.replace(b"x" * len(raw), raw))
    assert unpacked(path, tmp_path / "out") == ["fl\u00e4che.png"]


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "images/../../a.png", "C:/a.png", "..\\a.png", "a\x01.png"]
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.zip", "good.png", name)
    with pytest.raises(DataError, match="leads out of its folder; unpack it yourself"):
        unpacked(path, tmp_path / "in" / "out")
    assert not (tmp_path / "in").exists()


def bomb(path: Path) -> None:
    zipped(path, "a.png", data=bytes(100 << 20))


def link(path: Path) -> None:
    entry = zipfile.ZipInfo("a.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")


def twice(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(path, "a.png", "a.png")


def encrypted(path: Path) -> None:
    data = bytearray(zipped(path, "a.png").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def overlapping(path: Path) -> None:
    """Two entries of the directory share the same 1 kB of data."""
    data = zipped(path, "a.png", data=b"\x00\xff\x10" * 7 + bytes(range(256)) * 9).read_bytes()
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entries = b"".join(data[at:end].replace(b"a.png", name) for name in (b"a.png", b"b.png"))
    size = len(entries).to_bytes(4, "little")
    tail = data[end:].replace((end - at).to_bytes(4, "little"), size)
    tail = tail.replace(b"\x01\0\x01\0", b"\x02\0\x02\0")  # the number of entries
    path.write_bytes(data[:at] + entries + tail)


def truncated(path: Path) -> None:
    path.write_bytes(zipped(path, "a.png").read_bytes()[:-30])


def damaged(path: Path) -> None:
    data = zipped(path, "a.png", data=bytes(range(256)) * 99).read_bytes()
    path.write_bytes(data[:60] + bytes(20) + data[80:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bomb, "holds 'a.png' of 104857600 bytes"),
        (link, "holds the link 'a.png'"),
        (twice, "holds 'a.png' twice"),
        (encrypted, "is encrypted"),
        (overlapping, "whose files overlap"),
        (truncated, "is not a readable zip"),
        (damaged, "is not a readable zip"),
    ],
)
def test_a_hostile_or_broken_zip_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "a.zip")
    with pytest.raises(DataError, match=message) as caught:
        unpacked(tmp_path / "a.zip", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.png"))
