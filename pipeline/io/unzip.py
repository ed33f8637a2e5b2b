"""Zip files of other programs, unpacked into a folder of this program's own.

A zip file may come from a stranger: its names may lead out of the folder, its links to other files,
and its few bytes may unpack to more than the disk holds. Such a file is refused as a whole.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError
from pipeline.io.names import leaves_its_folder
from pipeline.io.read import open_regular, shown_value
from pipeline.io.write import whole_file

_STARTS = (b"PK\x03\x04", b"PK\x05\x06")  # of a zip file, and of an empty one
_UTF8, _ENCRYPTED = 0x800, 0x1  # flags of an entry
_SMALL, _MOST_TIMES = 64 << 20, 200  # bytes that any entry may have; else times its packed bytes
_BY_HAND = "unpack it yourself, and give the folder"
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError)


def is_zip(path: Path) -> bool:
    """Whether a regular file starts as a zip file does. Raises DataError for what cannot be
    opened."""
    with open_regular(path) as stream:
        return stream.read(4) in _STARTS


def unpack(path: Path, folder: Path, suffixes: Collection[str]) -> None:
    """Write the files of a zip that have one of the suffixes (lower case, with the dot) below
    `folder`. Raises DataError for a broken or encrypted zip, and for one that is an attack."""
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            entries = list(_entries(archive, path, suffixes))
            for name, entry in entries:
                with (
                    whole_file(folder / name, folder, durable=False) as target,
                    archive.open(entry) as source,
                    target.open("wb") as copy,
                ):
                    shutil.copyfileobj(source, copy)
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(path, f"is not a readable zip ({reason})", _BY_HAND) from error


def _entries(
    archive: zipfile.ZipFile, path: Path, suffixes: Collection[str]
) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The files to unpack, with their names. Raises DataError before anything is written."""
    seen: set[str] = set()
    packed = 0
    for entry in archive.infolist():
        name = _name(entry)
        if name.endswith("/") or PurePosixPath(name).suffix.lower() not in suffixes:
            continue
        packed += entry.compress_size
        if fault := _fault(entry, name, name in seen):
            raise DataError(path, f"is a zip that {fault}", _BY_HAND)
        seen.add(name)
        yield name, entry
    if packed > path.stat().st_size:
        raise DataError(path, "is a zip whose files overlap", "do not trust it")


def _fault(entry: zipfile.ZipInfo, name: str, is_known: bool) -> str:
    """Why an entry is not unpacked."""
    shown = shown_value(name)
    if leaves_its_folder(name):
        return f"holds {shown}, which leads out of its folder"
    if is_known:
        return f"holds {shown} twice"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return f"holds the link {shown}"
    if entry.flag_bits & _ENCRYPTED:
        return f"is encrypted ({shown})"
    if entry.file_size > max(_SMALL, _MOST_TIMES * entry.compress_size):
        return f"holds {shown} of {entry.file_size} bytes, {entry.compress_size} of them packed"
    return ""


def _name(entry: zipfile.ZipInfo) -> str:
    """The name of an entry, with `/`. Some programs write UTF-8 and do not say so."""
    name = entry.filename.replace("\\", "/")
    if entry.flag_bits & _UTF8:
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name
