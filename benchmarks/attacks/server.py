"""A server that lies about downloads, in a thread of this process."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from socketserver import StreamRequestHandler, ThreadingTCPServer
from unittest import mock

from .samples import Kind
from .values import Places

_RIGHT = b"the right bytes" * 1000
_BLOCK = b"x" * (1 << 16)
Answer = Callable[[Callable[[bytes], object]], object]


def _plain(head: str, body: bytes) -> Answer:
    return lambda send: send(f"{head}\r\n\r\n".encode() + body)


def _endless(send: Callable[[bytes], object]) -> None:
    send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        send(_BLOCK)


def _endless_chunks(send: Callable[[bytes], object]) -> None:
    send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        send(b"10000\r\n" + _BLOCK + b"\r\n")


def _endless_head(send: Callable[[bytes], object]) -> None:
    send(b"HTTP/1.1 200 OK\r\n")
    while True:
        send(b"X-Y: " + b"z" * 1000 + b"\r\n")


def _slow(send: Callable[[bytes], object]) -> None:
    send(b"HTTP/1.1 200 OK\r\nContent-Length: 15000\r\n\r\n")
    while True:
        send(b"x")
        time.sleep(0.1)


_OK = "HTTP/1.1 200 OK"
ANSWERS: Mapping[str, Answer] = {
    "truncated chunk": _plain(f"{_OK}\r\nTransfer-Encoding: chunked", b"ffff\r\nabc"),
    "bad chunk": _plain(f"{_OK}\r\nTransfer-Encoding: chunked", b"zz\r\nabc"),
    "huge chunk": _plain(f"{_OK}\r\nTransfer-Encoding: chunked", b"f" * 40 + b"\r\nabc"),
    "shorter than promised": _plain(f"{_OK}\r\nContent-Length: 99999999", _RIGHT),
    "longer than promised": _plain(f"{_OK}\r\nContent-Length: 10", _RIGHT),
    "length no number": _plain(f"{_OK}\r\nContent-Length: many", _RIGHT),
    "negative length": _plain(f"{_OK}\r\nContent-Length: -5", _RIGHT),
    "length beyond all disks": _plain(f"{_OK}\r\nContent-Length: {10**25}", _RIGHT),
    "two lengths": _plain(f"{_OK}\r\nContent-Length: 5\r\nContent-Length: 7", _RIGHT),
    "no status": _plain("nonsense", b""),
    "status no number": _plain("HTTP/1.1 abc", b""),
    "status 999": _plain("HTTP/1.1 999 \xe9\x01", b""),
    "nothing": lambda _: None,
    "status 206 unasked": _plain("HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-9/10", b"x" * 5),
    "status 416": _plain("HTTP/1.1 416 No", b""),
    "status 204": _plain("HTTP/1.1 204 No", b""),
    "redirect to itself": _plain("HTTP/1.1 302 Found\r\nLocation: /", b""),
    "redirect to a file": _plain("HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd", b""),
    "redirect to nonsense": _plain("HTTP/1.1 302 Found\r\nLocation: http://[::1", b""),
    "wrong bytes": _plain(_OK, b"wrong"),
    "no head's end": lambda send: send(b"HTTP/1.1 200 OK\r\nX: y"),
    "endless": _endless,
    "endless chunks": _endless_chunks,
    "endless head": _endless_head,
    "slow": _slow,
}


@contextmanager
def served(answer: Answer) -> Iterator[str]:
    """The address of a server that answers so."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while self.rfile.readline(65536).strip():
                    pass
                answer(self.wfile.write)

    class Server(ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/weights.pt"
        finally:
            server.shutdown()


def _fetched(name: str) -> Callable[[Random, Places], None]:
    """Fetch weights: from the liar alone, then with an honest source behind it."""

    def run(_: Random, places: Places) -> None:
        from pipeline.errors import PipelineError
        from pipeline.models.weights import download as downloads
        from pipeline.models.weights import paced_http
        from pipeline.models.weights.store import Entry, Source, WeightsStore

        digest = hashlib.sha256(_RIGHT).hexdigest()
        honest = _plain(f"{_OK}\r\nContent-Length: {len(_RIGHT)}", _RIGHT)
        with (
            served(ANSWERS[name]) as liar,
            served(honest) as other,
            mock.patch.object(downloads, "LIMIT", 1 << 24),  # as the program has them, but sooner
            mock.patch.object(paced_http, "_WINDOW_S", 1.0),
        ):
            for sources in ((Source(url=liar),), (Source(url=liar), Source(url=other))):
                folder = places.output / str(len(sources))
                entry = Entry("weights", "weights.pt", "", "", digest, sources)
                store = WeightsStore(folder, {"weights": entry})
                try:
                    store.fetch("weights")
                except PipelineError:
                    if len(sources) == 2:
                        raise AssertionError("the honest source was not tried") from None
                _only_right(folder)

    return run


def _only_right(folder: Path) -> None:
    file = folder / "weights.pt"
    if file.exists() and file.read_bytes() != _RIGHT:
        raise AssertionError("wrong bytes are kept as weights")


def _nothing(root: Path) -> None:
    root.mkdir(parents=True)


SERVERS: Mapping[str, list[Kind]] = {
    f"download: {name}": [Kind(_nothing, (), [_fetched(name)], memory=6 << 30)] for name in ANSWERS
}
