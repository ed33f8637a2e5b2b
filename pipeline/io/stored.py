"""Files that hold something else than their name says: the place of a file that was not downloaded,
or a packed folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import IO

from pipeline.errors import DataError

_POINTERS = {  # by how the text begins that stands in place of a file
    b"version https://git-lfs.github.com/": (
        "git LFS", "run `git lfs pull` in the folder of the repository"),
    b"/annex/objects/": ("git-annex", "run `git annex get .` in the folder of the repository"),
}  # fmt: skip
_LONGEST_POINTER = 1024  # bytes
_ARCHIVES = {  # by the first bytes, and where they are
    (b"\x1f\x8b", 0): "gzip",
    (b"7z\xbc\xaf\x27\x1c", 0): "7z",
    (b"Rar!\x1a\x07", 0): "RAR",
    (b"\xfd7zXZ\0", 0): "xz",
    (b"BZh", 0): "bzip2",
    (b"\x28\xb5\x2f\xfd", 0): "zstd",
    (b"PK\x03\x04", 0): "zip",
    (b"ustar", 257): "tar",
}
_TARS = {".tgz", ".txz", ".tbz", ".tbz2", ".tar"}
_SUFFIXES = _TARS | {".gz", ".7z", ".rar", ".xz", ".bz2", ".zst", ".zip"}
_COMMANDS = {"7z": "7z x {}", "RAR": "unrar x {}", "zip": "unzip {} -d {stem}"}
_OF_ONE_FILE = {"gzip": "gunzip -k {}", "xz": "unxz -k {}", "bzip2": "bunzip2 -k {}",
                "zstd": "unzstd {}"}  # fmt: skip


def refuse_pointer(path: Path, stream: IO[bytes], size: int) -> None:
    """Raise DataError for a text that a version control system keeps in place of a large file.
    stream: at the start of the file, where it stays. size: in bytes."""
    if size > _LONGEST_POINTER:
        return
    start = stream.read(max(map(len, _POINTERS)))
    stream.seek(0)
    for mark, (system, remedy) in _POINTERS.items():
        if start.startswith(mark):
            raise DataError(path, f"is not the file itself, but its pointer of {system}", remedy)


def archive_of(path: Path) -> str:
    """The name of the format of a packed file, by its name and content; "" for another file, such
    as a model that is a zip inside, for a folder and for nothing."""
    if not any(suffix.lower() in _SUFFIXES for suffix in path.suffixes[-2:]):  # x.7z.001 too
        return ""
    try:
        with path.open("rb") as stream:
            start = stream.read(512)
    except (OSError, ValueError):
        return ""
    kinds = (name for (mark, at), name in _ARCHIVES.items() if start[at:].startswith(mark))
    return next(kinds, "tar" if path.suffix.lower() == ".tar" else "")  # old ones have no mark


def refuse_archive(path: Path) -> None:
    """Raise DataError for a packed folder or file, with the command that unpacks it."""
    if error := archive_error(path):
        raise error


def archive_error(path: Path) -> DataError | None:
    """The error about a packed folder or file, with the command that unpacks it; None for another
    file."""
    kind = archive_of(path)
    if not kind:
        return None
    is_tar = kind == "tar" or path.suffix.lower() in _TARS or path.stem.lower().endswith(".tar")
    command = "tar -xf {}" if is_tar else (_COMMANDS | _OF_ONE_FILE)[kind]
    shown = command.format(shlex.quote(path.name), stem=shlex.quote(path.stem))
    article = "an" if kind[0] in "Rx" else "a"
    reason = f"is {article} {kind} file of packed data, which this command does not open"
    return DataError(path, reason, f"unpack it first (`{shown}`), and give what comes out")


def packed_inside(folder: Path) -> DataError | None:
    """The error about a folder that holds a packed file and no other folder; None for another."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return None
    packed = [path for path in paths if path.is_file() and archive_of(path)]
    if not packed or any(path.is_dir() and not path.name.startswith(".") for path in paths):
        return None
    inner = archive_error(packed[0])
    remedy = inner.remedy if inner else ""
    return DataError(folder, f"holds {packed[0].name}, which is packed", remedy)
