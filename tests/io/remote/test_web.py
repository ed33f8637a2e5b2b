"""Files and folders of a web server, which are only read."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import CallPipeline, draw_product

import pipeline

pytest.importorskip("aiohttp", reason="aiohttp is not installed")
pytestmark = pytest.mark.usefixtures("own_cache")


class Handler(http.server.SimpleHTTPRequestHandler):
    """A folder; it needs a password where its name says so. seen: the requests."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(f"GET {self.path}")
        if "/private/" in self.path and not self.headers.get("Authorization"):
            self.send_error(401)
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server of `tmp_path`/site, which holds a product."""
    draw_product(tmp_path / "site" / "my widget")
    Handler.seen = []
    handler = functools.partial(Handler, directory=tmp_path / "site")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_that_is_not_there_is_one_line(site: str, call_pipeline: CallPipeline) -> None:
    ended = call_pipeline("stats", f"{site}/none.json")
    assert ended.code == 2
    assert ended.stderr.startswith(f"pipeline: {site}/none.json: no such file or folder; check")


def test_a_folder_that_the_server_lists_is_read_once(
    site: str, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    local = call_pipeline("stats", tmp_path / "site" / "my widget", "--json")
    ended = call_pipeline("stats", f"{site}/my%20widget/", "--json")
    assert (ended.code, ended.stdout) == (0, local.stdout), ended.stderr
    Handler.seen.clear()
    assert call_pipeline("stats", f"{site}/my%20widget", "--json").stdout == local.stdout
    assert [line for line in Handler.seen if line.endswith(".png")] == []


def test_a_file_of_labels_and_a_photo_are_read(site: str, tmp_path: Path) -> None:
    pipeline.convert_masks([tmp_path / "site" / "my widget"], tmp_path / "site" / "set", workers=1)
    labels = pipeline.read_coco(f"{site}/set/annotations/instances.json")
    assert len(labels.records) == 12
    assert pipeline.read_image(f"{site}/my%20widget/train/good/000.png").shape == (48, 64, 3)


def test_a_page_that_lists_no_file_is_one_line(
    site: str, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    (tmp_path / "site" / "my widget" / "index.html").write_text("<p>our photos</p>")
    ended = call_pipeline("stats", f"{site}/my%20widget/")
    assert (ended.code, ended.stderr) == (
        2,
        f"pipeline: {site}/my widget: is a page that names no file below it; give a folder that "
        "the server lists, or a file\n",
    )


def test_an_output_is_refused(site: str, tmp_path: Path, call_pipeline: CallPipeline) -> None:
    product = tmp_path / "site" / "my widget"
    ended = call_pipeline("convert-masks", product, "-o", f"{site}/out")
    assert ended.stderr == (
        f"pipeline: {site}/out: cannot be written: a web server is only read; name a folder of a "
        "bucket or of this machine\n"
    )


def test_a_password_in_an_address_is_used_and_never_shown(
    site: str, tmp_path: Path, own_cache: Path, call_pipeline: CallPipeline
) -> None:
    (tmp_path / "site" / "my widget").rename(tmp_path / "site" / "private")
    address = f"{site}/private/".replace("://", "://me:hunter2@")
    outputs = [call_pipeline("stats", address)]
    assert outputs[0].code == 0, outputs[0].stderr
    outputs += [
        call_pipeline("stats", address, "-o", tmp_path / "out"),
        call_pipeline("stats", f"{address}none.json?X-Amz-Signature=5ecret"),
        call_pipeline("stats", f"{site}/private/none.json"),
    ]
    assert "cannot be read (access is denied)" in outputs[-1].stderr
    texts = [part.encode() for each in outputs for part in (each.stdout, each.stderr)]
    folders = (own_cache, tmp_path / "out")
    files = [path for folder in folders for path in folder.rglob("*")]
    texts += [path.read_bytes() for path in files if path.is_file()] + [str(files).encode()]
    for text in texts:
        assert b"hunter2" not in text
        assert b"5ecret" not in text
