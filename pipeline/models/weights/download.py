"""Downloads that a bad server cannot crash, stall, or use to fill the disk: they end with the right
bytes or with a WeightsError."""

from __future__ import annotations

import hashlib
import http.client
import os
import stat
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from pipeline.errors import DataError, WeightsError
from pipeline.io.write import whole_file
from pipeline.models.weights.paced_http import Clock, Pace, TooMuchError, opener
from pipeline.runtime.progress import track

LIMIT = 4 << 30  # bytes of a file of unknown size
_CHUNK = 1 << 20
_CHUNKED_OVERHEAD = 1.25  # most bytes of a chunked response, per byte of content
_TIMEOUT_S = 15.0  # of one wait for the network
_PIN_DIGITS = 8  # fewest hexadecimal digits of a sha256 that are a check


class _WrongBytesError(WeightsError):
    """The bytes of this or an earlier try are not of the right file."""


def download(
    url: str, target: Path, sha256: str, size: int = 0, clock: Clock = time.monotonic
) -> None:
    """Download `url` to `target`, from where an earlier try stopped.

    The file is at `target` only once its sha256 begins with the given one. size: of the right file
    in bytes, 0 if unknown. Raises WeightsError if the server cannot be reached, is too slow, sends
    other bytes or too many, and if the disk refuses to write.
    """
    try:
        with _part(target) as (stream, path):
            _fill(stream, url, sha256, size or LIMIT, clock)
            with whole_file(target, root=target.parent) as temporary:
                path.replace(temporary)
    except (OSError, DataError) as error:
        raise cannot_keep(target, error) from error


def check_pin(sha256: str, pin: str) -> None:
    """Raise WeightsError for a sha256 that does not begin with `pin`, and for a pin that is too
    short to be a check."""
    if len(pin) < _PIN_DIGITS:
        raise WeightsError(
            f"sha256 {pin!r} is too short to check; give at least {_PIN_DIGITS} digits"
        )
    if not sha256.startswith(pin):
        raise _WrongBytesError(f"sha256 is {sha256[:16]}..., not {pin[:16]}...")


def cannot_keep(target: Path, error: OSError | DataError) -> WeightsError:
    """The error for weights that the disk refuses to store."""
    reason = error.reason if isinstance(error, DataError) else error.strerror or str(error)
    remedy = "free space, or set PIPELINE_WEIGHTS to a folder that can be written"
    return WeightsError(f"{target}: cannot be written ({reason}); {remedy}")


def _fill(stream: IO[bytes], url: str, sha256: str, limit: int, clock: Clock) -> None:
    """Download to an open partial file until it is the right file. If the bytes of an earlier try
    are wrong, download once more from the start."""
    have = stream.seek(0, os.SEEK_END)
    if have > limit:
        have = _emptied(stream)
    for again in (have > 0, False):
        try:
            _receive(stream, url, limit, clock)
            check_pin(_sha256(stream), sha256)
            return
        except (_WrongBytesError, TooMuchError):
            _emptied(stream)
            if not again:
                raise


def _receive(stream: IO[bytes], url: str, limit: int, clock: Clock) -> None:
    """Download the rest of a partial file."""
    have = stream.seek(0, os.SEEK_END)
    pace = Pace(clock)
    response = _response(url, have, pace)
    if response is None:
        return
    with response:
        if response.status != 206:
            have = _emptied(stream)
        pace.allow(int((limit - have) * _CHUNKED_OVERHEAD))
        _save(response, stream, limit - have, url)


def _response(url: str, have: int, pace: Pace) -> Any:
    """The server's response with the bytes after the first `have`; None if there are no more."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise WeightsError(f"{_shown(url)} is no web address")
        return opener(pace).open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the partial file is complete
            return None
        raise WeightsError(f"the server answers {error.code} {_shown(error.reason)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = _shown(getattr(error, "reason", None) or error) or type(error).__name__
        raise WeightsError(f"not reachable ({reason})") from error


def _save(response: Any, stream: IO[bytes], room: int, url: str) -> None:
    """Write the response's content. Raises WeightsError for more than `room` bytes."""
    promised = response.length
    if promised is not None and promised > room:
        raise _WrongBytesError(f"the server promises {promised} bytes, {promised - room} too many")
    title = f"fetch {_shown(urlsplit(url).path.rpartition('/')[2])}, MB"
    received = 0
    total = None if promised is None else promised // _CHUNK + 1
    for block in track(_blocks(response), title, total=total):
        received += len(block)
        if received > room:
            raise _WrongBytesError(f"the server sends more than the {room} bytes of the file")
        stream.write(block)
    stream.flush()
    if promised is not None and received < promised:
        missing = promised - received
        raise WeightsError(f"the connection broke {missing} bytes before the end; call again")


def _blocks(response: Any) -> Iterator[memoryview]:
    """The response's content in blocks, all in one buffer. Without `read`, which takes a chunk of
    length -1 as a request for everything."""
    buffer = memoryview(bytearray(_CHUNK))
    try:
        while count := response.readinto(buffer):
            yield buffer[:count]
    except http.client.IncompleteRead as error:
        yield memoryview(error.partial)
        if response.length is None:
            raise WeightsError("the connection broke before the end; call again") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = _shown(error) or type(error).__name__
        raise WeightsError(f"the connection broke ({reason}); call again") from error


@contextmanager
def _part(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A partial file for this process alone: that of an earlier try or, if another process writes
    that one, a temporary file. An empty file is deleted in the end."""
    path, stays = target.with_name(f"{target.name}.part"), True
    target.parent.mkdir(parents=True, exist_ok=True)
    stream = _locked(path)
    if stream is None:
        stays = False
        descriptor, name = tempfile.mkstemp(".part", f".{target.name}.", target.parent)
        stream, path = os.fdopen(descriptor, "r+b"), Path(name)
    try:
        yield stream, path
    finally:
        with suppress(OSError):
            stream.flush()
        with suppress(OSError):
            mine = os.fstat(stream.fileno())
            if mine.st_ino == path.stat().st_ino and not (stays and mine.st_size):
                path.unlink()
        with suppress(OSError):
            stream.close()


def _locked(path: Path) -> IO[bytes] | None:
    """The partial file, open and locked; None if another process has the lock, or on a system
    without locks. A link or a pipe with its name is deleted: this module writes neither."""
    try:
        import fcntl
    except ImportError:
        return None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.unlink()
        stream = os.fdopen(os.open(path, flags, 0o666), "r+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            return None
        state = os.fstat(stream.fileno())
        with suppress(FileNotFoundError):
            if stat.S_ISREG(state.st_mode) and state.st_ino == path.stat().st_ino:
                return stream
        stream.close()  # another process has just moved or deleted it


def _emptied(stream: IO[bytes]) -> int:
    stream.seek(0)
    stream.truncate()
    return 0


def _sha256(stream: IO[bytes]) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _shown(text: object) -> str:
    """A server's text for a message: short, on one line, printable."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(plain.split())[:200]
