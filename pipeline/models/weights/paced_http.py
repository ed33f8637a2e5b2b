"""HTTP with limits on the size and speed of a response, headers included. urllib has no limit on
the size, and its timeout starts again with every byte."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import WeightsError

_HEAD_LIMIT = 1 << 20  # bytes of a response before its content
_MIN_BYTES_PER_S, _WINDOW_S = 1000, 60.0  # fewest bytes a second, over so many seconds of waiting

Clock = Callable[[], float]


class TooMuchError(WeightsError):
    """A server sends more bytes than the file has."""


def opener(pace: Pace) -> urllib.request.OpenerDirector:
    """urllib's opener for http and https, with the limits of `pace`, which raise WeightsError."""
    return urllib.request.build_opener(_Http(pace), _Https(pace), _Redirects())


class Pace:
    """Counts the bytes of a response. Raises WeightsError if they are too many or too slow."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._left = _HEAD_LIMIT
        self._bytes, self._waited = 0, 0.0

    def allow(self, count: int) -> None:
        """Allow `count` more bytes."""
        self._left = _HEAD_LIMIT + count

    def count(self, received: int, seconds: float) -> None:
        """Record bytes that came after a wait of `seconds`. Raises TooMuchError, WeightsError."""
        self._left -= received
        if self._left < 0:
            raise TooMuchError("the server sends more bytes than the file has")
        self._bytes += received
        self._waited += seconds
        if self._waited >= _WINDOW_S:
            if self._bytes < _MIN_BYTES_PER_S * self._waited:
                raise WeightsError(f"the server sends less than {_MIN_BYTES_PER_S} bytes a second")
            self._bytes, self._waited = 0, 0.0


class _Counted(io.RawIOBase):
    """A connection that records the bytes and the time of each read in a `Pace`."""

    def __init__(self, inner: io.RawIOBase, pace: Pace) -> None:
        self._inner, self._pace = inner, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began = self._pace.clock()
        count = self._inner.readinto(buffer)
        self._pace.count(count or 0, self._pace.clock() - began)
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response that a `Pace` counts from its first byte."""

    def __init__(self, pace: Pace, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        plain: Any = self.fp
        self.fp = io.BufferedReader(_Counted(plain.detach(), pace))

    def read(self, amt: int | None = None) -> bytes:  # noqa: ARG002
        """Nothing: urllib would read the whole content of a redirect."""
        return b""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._response = functools.partial(_Response, pace)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPConnection:
            result = http.client.HTTPConnection(host, **options)
            result.response_class = self._response  # type: ignore[assignment]
            return result

        return self.do_open(connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._response = functools.partial(_Response, pace)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        def connection(host: str, **options: Any) -> http.client.HTTPSConnection:
            result = http.client.HTTPSConnection(host, **options)  # checks certificates
            result.response_class = self._response  # type: ignore[assignment]
            return result

        return self.do_open(connection, req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and from http to http; none to a file or from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        allowed = {"https", "http"} if urlsplit(req.full_url).scheme == "http" else {"https"}
        if urlsplit(newurl).scheme not in allowed:
            reason = f"{msg}, to {newurl}, which is not followed"
            raise urllib.error.HTTPError(newurl, code, reason, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
