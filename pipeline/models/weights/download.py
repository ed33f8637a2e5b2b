"""Downloads that no server can crash, stall, or fill the disk with: whatever it sends, there are
the right bytes in the end, or a WeightsError."""

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

LIMIT = 4 << 30  # bytes of a file whose size nobody knows
_CHUNK = 1 << 20
_FRAMES = 1.25  # what an answer in chunks may have over its content
_TIMEOUT_S = 15.0  # of one wait for the network
_PIN = 8  # hexadecimal digits of a sha256, at least


class _WrongError(WeightsError):
    """What came, or what an earlier try left, cannot be a part of the right file."""


def download(
    url: str, target: Path, sha256: str, size: int = 0, clock: Clock = time.monotonic
) -> None:
    """Download `url` to `target`, taking up a part that an earlier try left.

    The file appears at `target` only when its sha256 begins with the given one. size: of the right
    file in bytes, 0 where nobody knows. Raises WeightsError when the server cannot be reached, is
    too slow, sends something else or too much, and when the disk refuses.
    """
    try:
        with _part(target) as (stream, path):
            _fill(stream, url, sha256, size or LIMIT, clock)
            with whole_file(target, root=target.parent) as temporary:
                path.replace(temporary)
    except (OSError, DataError) as error:
        raise cannot_keep(target, error) from error


def check_pin(found: str, pin: str) -> None:
    """Raise WeightsError for a sha256 that does not begin with `pin`, or a pin that is too short to
    mean anything."""
    if len(pin) < _PIN:
        raise WeightsError(f"sha256 {pin!r} is too short to check: name {_PIN} digits at least")
    if not found.startswith(pin):
        raise _WrongError(f"sha256 is {found[:16]}..., not {pin[:16]}...")


def cannot_keep(target: Path, error: OSError | DataError) -> WeightsError:
    """The one line for weights that the disk does not take."""
    reason = error.reason if isinstance(error, DataError) else error.strerror or str(error)
    remedy = "free space, or set PIPELINE_WEIGHTS to a folder that can be written"
    return WeightsError(f"{target}: cannot be kept ({reason}); {remedy}")


def _fill(stream: IO[bytes], url: str, sha256: str, limit: int, clock: Clock) -> None:
    """Download to an open part until it is the right file. What an earlier try left may be wrong:
    then once more from the start."""
    have = stream.seek(0, os.SEEK_END)
    if have > limit:
        have = _emptied(stream)
    for again in (have > 0, False):
        try:
            _receive(stream, url, limit, clock)
            check_pin(_sha256(stream), sha256)
            return
        except (_WrongError, TooMuchError):
            _emptied(stream)
            if not again:
                raise


def _receive(stream: IO[bytes], url: str, limit: int, clock: Clock) -> None:
    """Bring a part to its end, as far as the server has it."""
    have = stream.seek(0, os.SEEK_END)
    pace = Pace(clock)
    answer = _asked(url, have, pace)
    if answer is None:
        return
    with answer:
        if answer.status != 206:
            have = _emptied(stream)
        pace.allow(int((limit - have) * _FRAMES))
        _save(answer, stream, limit - have, url)


def _asked(url: str, have: int, pace: Pace) -> Any:
    """A server's answer to what is missing after `have` bytes; None when nothing is."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise WeightsError(f"{_shown(url)} is no web address")
        return opener(pace).open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # the part already holds everything
            return None
        raise WeightsError(f"the server answers {error.code} {_shown(error.reason)}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = _shown(getattr(error, "reason", None) or error) or type(error).__name__
        raise WeightsError(f"not reachable ({reason})") from error


def _save(answer: Any, stream: IO[bytes], room: int, url: str) -> None:
    """Write what the server sends, `room` bytes at most."""
    promised = answer.length
    if promised is not None and promised > room:
        raise _WrongError(f"the server promises {promised} bytes, {promised - room} too many")
    title = f"fetch {_shown(urlsplit(url).path.rpartition('/')[2])}, MB"
    received = 0
    total = None if promised is None else promised // _CHUNK + 1
    for block in track(_blocks(answer), title, total=total):
        received += len(block)
        if received > room:
            raise _WrongError(f"the server sends more than the {room} bytes that there can be")
        stream.write(block)
    stream.flush()
    if promised is not None and received < promised:
        missing = promised - received
        raise WeightsError(f"the connection broke {missing} bytes before the end; call again")


def _blocks(answer: Any) -> Iterator[memoryview]:
    """What the server sends, in blocks of one buffer. Not `read`: it takes a chunk of length -1 for
    all that ever comes."""
    buffer = memoryview(bytearray(_CHUNK))
    try:
        while count := answer.readinto(buffer):
            yield buffer[:count]
    except http.client.IncompleteRead as error:
        yield memoryview(error.partial)
        if answer.length is None:
            raise WeightsError("the connection broke before the end; call again") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = _shown(error) or type(error).__name__
        raise WeightsError(f"the connection broke ({reason}); call again") from error


@contextmanager
def _part(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A file for what comes, for this process alone: the part that an earlier try left, or one that
    goes in the end where another process is at that. An empty one goes, too."""
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
    """A part, open and locked; None where another process has it, or where there are no locks. A
    link or a pipe in its place is nothing of ours, and goes."""
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
        stream.close()  # the other process has just finished with it


def _emptied(stream: IO[bytes]) -> int:
    stream.seek(0)
    stream.truncate()
    return 0


def _sha256(stream: IO[bytes]) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _shown(text: object) -> str:
    """A server's words in a message: short, on one line, printable."""
    plain = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(plain.split())[:200]
