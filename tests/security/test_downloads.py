"""Servers and weights folders that lie: each is a WeightsError, and the next source is tried."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.errors import WeightsError
from pipeline.models.weights import download as downloads
from pipeline.models.weights import paced_http
from pipeline.models.weights.download import check_pin, download
from pipeline.models.weights.store import Entry, Source, WeightsStore

CONTENT = bytes(range(256)) * 800
SHA = hashlib.sha256(CONTENT).hexdigest()
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TRUTH = OK + b"Content-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT

Script = bytes | Callable[[socket.socket], None]
Serve = Callable[..., str]


@pytest.fixture
def asked() -> list[bytes]:
    return []


@pytest.fixture
def serve(asked: list[bytes]) -> Iterator[Serve]:
    """Start servers that answer their first request with the first script and so on, the last one
    for ever; `asked` has the requests."""
    opened: list[socket.socket] = []

    def start(*scripts: Script) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)
        threading.Thread(target=_answer, args=(listening, scripts, asked), daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/x.pt"

    yield start
    for listening in opened:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _answer(listening: socket.socket, scripts: tuple[Script, ...], asked: list[bytes]) -> None:
    number = 0
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        script = scripts[min(number, len(scripts) - 1)]
        number += 1
        with suppress(OSError), connection:
            asked.append(connection.recv(1 << 16))
            connection.sendall(script) if isinstance(script, bytes) else script(connection)


def endless(head: bytes, block: bytes) -> Callable[[socket.socket], None]:
    def script(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(block)

    return script


def redirect(place: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\n\r\n"


def promises(length: bytes, body: bytes = CONTENT) -> bytes:
    return OK + b"Content-Length: " + length + b"\r\n\r\n" + body


LIES: dict[str, Script] = {
    "nothing at all": b"",
    "no HTTP": b"garbage\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 two OK\r\n\r\n",
    "a status beyond all": b"HTTP/1.1 99999 OK\r\n\r\n",
    "a status line of 70 kB": b"HTTP/1.1 200 " + b"x" * 70_000,
    "a header of 70 kB": OK + b"X: " + b"x" * 70_000,
    "five hundred headers": OK + b"X: y\r\n" * 500 + b"\r\n",
    "a header that is none": OK + b"\x00\xff no colon\r\n\r\nx",
    "headers that end early": OK + b"Content-Le",
    "an empty body": OK + b"\r\n",
    "other bytes": promises(b"%d" % len(CONTENT), CONTENT[::-1]),
    "a body that is cut off": promises(b"%d" % len(CONTENT), CONTENT[:-1]),
    "a length that is too small": promises(b"10"),
    "a length beyond all": promises(b"1" + b"0" * 30),
    "a length of 5000 digits": promises(b"9" * 5000, b"x"),
    "a length below nothing": promises(b"-5", b"x"),
    "a length that is no number": promises(b"12abc", b"x"),
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 9\r\n\r\nabc",
    "a chunk that is cut off": CHUNKED + b"400\r\nabc",
    "chunks without an end": CHUNKED + b"3\r\nabc\r\n",
    "a chunk of length -1": CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n",
    "a chunk of length -99": CHUNKED + b"-63\r\nabc\r\n0\r\n\r\n",
    "a chunk of no length": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "a chunk beyond all": CHUNKED + b"f" * 40 + b"\r\nabc",
    "a chunk's head of 70 kB": CHUNKED + b"1;" + b"x" * 70_000,
    "not found": b"HTTP/1.1 404 Not\x1b[31mFound\r\n\r\n",
    "beyond the end, for the whole": b"HTTP/1.1 416 No\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\n\r\n",
    "a redirect to no address": redirect(b"http://[::1"),
    "a redirect to a bad port": redirect(b"http://127.0.0.1:99999999/"),
    "a redirect to ftp": redirect(b"ftp://127.0.0.1/x"),
    "a redirect to data": redirect(b"data:,abc"),
    "a redirect to itself": redirect(b"/x.pt"),
    "an endless wait to go on": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "an endless trailer": endless(CHUNKED + b"0\r\n", b"X: y\r\n" * 1000),
    "an endless body": endless(OK + b"\r\n", CONTENT),
    "an endless body in chunks": endless(CHUNKED, b"4\r\nabcd\r\n" * 1000),
    "a redirect that promises more than memory": redirect(b"http://127.0.0.1:1/")[:-2]
    + b"Content-Length: 100000000000000000\r\n\r\n",
    "an endless redirect": endless(redirect(b"http://127.0.0.1:1/"), CONTENT),
}


def entry(*urls: str, sha256: str = SHA) -> Entry:
    sources = tuple(Source(url=url) for url in urls)
    return Entry("x", "x.pt", "", "MIT", sha256, sources, size=len(CONTENT))


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_server_is_one_line_and_the_next_source_is_tried(
    tmp_path: Path, serve: Serve, lie: str
) -> None:
    lying, honest = serve(LIES[lie]), serve(TRUTH)
    with pytest.raises(WeightsError) as caught:
        WeightsStore(tmp_path / "alone", {"x": entry(lying)}).fetch("x")
    assert str(caught.value).isprintable()
    assert not (tmp_path / "alone" / "x.pt").exists()
    assert WeightsStore(tmp_path, {"x": entry(lying, honest)}).fetch("x").sha256 == SHA
    assert (tmp_path / "x.pt").read_bytes() == CONTENT
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.part")) <= len(CONTENT)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:{port}/x.pt", "file://{file}", "{file}", "ftp://x"]
)
def test_no_plain_line_for_https_and_no_file_for_an_address(
    tmp_path: Path, serve: Serve, url: str
) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    port = serve(TRUTH).rpartition(":")[2].partition("/")[0]
    with pytest.raises(WeightsError):
        download(url.format(port=port, file=tmp_path / "secret"), tmp_path / "x.pt", SHA)
    assert not (tmp_path / "x.pt").exists()


def test_a_redirect_to_a_file_is_not_followed(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="not allowed"):
        download(serve(redirect(b"file://%b" % bytes(tmp_path / "secret"))), tmp_path / "x.pt", SHA)


def test_a_redirect_to_another_server_is_followed_unless_it_leaves_https(
    tmp_path: Path, serve: Serve
) -> None:
    download(serve(redirect(serve(TRUTH).encode())), tmp_path / "x.pt", SHA)
    assert (tmp_path / "x.pt").read_bytes() == CONTENT
    request = urllib.request.Request("https://x/y")
    follow = paced_http._Redirects().redirect_request
    with pytest.raises(urllib.error.HTTPError, match="is not followed"):
        follow(request, None, 302, "Found", {}, "http://x/y")
    followed = follow(request, None, 302, "Found", {}, "https://x/z")
    assert followed is not None
    assert followed.full_url == "https://x/z"


def test_without_a_size_there_is_a_limit_for_all(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "LIMIT", 3 * len(CONTENT))
    with pytest.raises(WeightsError, match="more than the 614400 bytes"):
        download(serve(LIES["an endless body"]), tmp_path / "x.pt", SHA)
    assert not list(tmp_path.iterdir())


class Clock:
    """Every reading takes a while."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize("head", [b"", OK, OK + b"X: ", OK + b"\r\n", CHUNKED])
def test_a_drip_is_broken_off_wherever_it_drips(tmp_path: Path, serve: Serve, head: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(head + b"1")
        connection.recv(1)  # until the other side has enough

    with pytest.raises(WeightsError, match="less than 1000 bytes a second"):
        download(serve(drip), tmp_path / "x.pt", SHA, clock=Clock(70))


def test_a_slow_but_steady_server_is_waited_for(tmp_path: Path, serve: Serve) -> None:
    download(serve(TRUTH), tmp_path / "x.pt", SHA, clock=Clock(2))
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"y" * 900, CONTENT + b"more", CONTENT[::-1]])
def test_a_wrong_part_is_dropped_and_all_is_fetched_once_more(
    tmp_path: Path, serve: Serve, asked: list[bytes], part: bytes
) -> None:
    """The server has it from 900 bytes on, or says that nothing is beyond its end."""
    (tmp_path / "x.pt.part").write_bytes(part)
    rest = b"HTTP/1.1 206 Part\r\n\r\n" + CONTENT[900:]
    first = rest if len(part) == 900 else b"HTTP/1.1 416 No\r\n\r\n"
    if len(part) > len(CONTENT):
        first = TRUTH
    download(serve(first, TRUTH), tmp_path / "x.pt", SHA, len(CONTENT))
    assert (tmp_path / "x.pt").read_bytes() == CONTENT
    assert not (tmp_path / "x.pt.part").exists()
    assert len(asked) == (1 if len(part) > len(CONTENT) else 2)


def test_a_part_that_leads_elsewhere_is_not_written_through(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "x.pt.part").symlink_to(tmp_path / "mine")
    download(serve(TRUTH), tmp_path / "weights" / "x.pt", SHA)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (tmp_path / "weights" / "x.pt").read_bytes() == CONTENT


def test_two_processes_do_not_write_one_part(tmp_path: Path, serve: Serve) -> None:
    with (tmp_path / "x.pt.part").open("wb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        theirs.write(b"theirs")
        theirs.flush()
        download(serve(TRUTH), tmp_path / "x.pt", SHA)
        assert (tmp_path / "x.pt.part").read_bytes() == b"theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"x.pt", "x.pt.part"}


def test_a_full_disk_is_one_line_that_names_what_to_do(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "_save", full)
    with pytest.raises(WeightsError, match=r"No space left on device\).*PIPELINE_WEIGHTS"):
        WeightsStore(tmp_path, {"x": entry(serve(TRUTH))}).fetch("x")


def test_a_folder_that_takes_nothing_leaves_the_fallback_that_is_there(
    tmp_path: Path, serve: Serve
) -> None:
    """`weights/x` is a file where a folder should be, so that nothing can be fetched into it."""
    (tmp_path / "y.pt").write_bytes(CONTENT)
    (tmp_path / "file").write_bytes(b"")
    there = Entry("y", "y.pt", "", "MIT", SHA)
    blocked = Entry("x", "file/x.pt", "", "MIT", SHA, (Source(url=serve(TRUTH)),), "y")
    assert WeightsStore(tmp_path, {"x": blocked, "y": there}).get("x").name == "y"


def test_a_pin_of_fewer_than_eight_digits_pins_nothing(tmp_path: Path, serve: Serve) -> None:
    for pin in ("", SHA[:7]):
        with pytest.raises(WeightsError, match="too short"):
            WeightsStore(tmp_path, {"x": entry(serve(TRUTH), sha256=pin)}).fetch("x")
    check_pin(SHA, SHA[:8])
