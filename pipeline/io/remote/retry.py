"""Calls over a network: repeated when they fail for a while, and one line when they fail for good.

No line quotes an error of a library: its text may hold a signed address.
"""

from __future__ import annotations

import errno
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.errors import DataError, PipelineError
from pipeline.io.remote.stores import CONNECTIONS

Item = TypeVar("Item")
Result = TypeVar("Result")

_TRIES = 6
_FIRST_PAUSE_S = 0.5  # then twice as long each time: 15 s in all
_OF_THIS_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR, errno.EISDIR}
_stopping = threading.Event()  # the others fail, or the command ends
_REASONS = {
    "NoCredentialsError": "no credentials were found",
    "PartialCredentialsError": "a part of the credentials is missing",
    "ProfileNotFound": "the profile of the credentials was not found",
    "ParamValidationError": "its name cannot be one",
    "InvalidURL": "its name cannot be one",
    "NonHttpUrlClientError": "its name cannot be one",
}  # by the type of the error: it would fail again
_TO_ALLOW = "give the credentials that may, in the environment or in the library's own files"
_AGAIN = "call the same command again: it goes on from here"


class UnlikeListedError(Exception):
    """A file did not arrive as the store listed it."""


def retried(call: Callable[[], Result], shown: str, doing: str = "read") -> Result:
    """The result of a call. A 503, a lost connection, a timeout and a truncated body are tried
    again, with growing pauses.

    shown: the address, without credentials. doing: `read` or `written`. Raises FileNotFoundError
    for what is not there, DataError for the rest.
    """
    for number in range(_TRIES):
        try:
            return call()
        except (PipelineError, FileNotFoundError) as error:
            # a web file that is not there has a 404 behind it; another cause, such as a lost
            # connection, passes
            if isinstance(error, PipelineError) or not error.__cause__ or _status(error) == 404:
                raise
            last: Exception = error
        except (TypeError, AttributeError, NameError, AssertionError):
            raise  # a fault of the program
        except Exception as error:  # of any library
            last = error
        if (reason := _final(last)) is not None:
            remedy = _TO_ALLOW if "disk" not in reason else "free space, or set PIPELINE_CACHE"
            raise DataError(shown, f"cannot be {doing} ({reason})", remedy) from last
        if number < _TRIES - 1:
            pause = _FIRST_PAUSE_S * 2**number * random.uniform(0.75, 1.25)
            if _stopping.wait(pause):
                break
    reason = f"{_passing(last)}, {_TRIES} times"
    raise DataError(shown, f"cannot be {doing} ({reason})", _AGAIN) from last


def at_once(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of `work` in the order of the items, several at the same time; few are kept."""
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= 4 * CONNECTIONS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        _stopping.set()  # after a fault, those that are on their way do not try again
        pool.shutdown(cancel_futures=True)
        _stopping.clear()


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error; None where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        status = getattr(seen, "status", None)
        response = getattr(seen, "response", None)
        if isinstance(response, dict):  # botocore's
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
        seen = seen.__cause__
    return None


def _final(error: Exception) -> str | None:
    """Why a call would fail again; None where it may not."""
    name = type(error).__name__
    if name in _REASONS:
        return _REASONS[name]
    status = _status(error)
    if isinstance(error, PermissionError) or status in (401, 403):
        return "access is denied"
    if isinstance(error, OSError) and error.errno in _OF_THIS_DISK:
        return f"the disk of the copy: {error.strerror}" if error.strerror else "the disk is full"
    return None


def _passing(error: Exception) -> str:
    status = _status(error)
    if isinstance(error, UnlikeListedError):
        return str(error)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "no answer in time"
    if status is not None and status >= 400:
        return f"the server answered {status}"
    if "Payload" in type(error).__name__ or "Incomplete" in type(error).__name__:
        return "the file arrived in part"
    return "the connection failed"
