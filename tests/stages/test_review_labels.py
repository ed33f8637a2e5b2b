"""`pipeline review` as a user has it: a process that prints an address, and is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import JsonValue
from review_sessions import draw_labels
from small import CallPipeline

pytestmark = pytest.mark.slow


class Server:
    """A running `pipeline review`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.address = urlsplit(process.stdout.readline().strip())
        self.port = self.address.port or 0
        self.cookie = self._opened()

    def _opened(self) -> str:
        _, cookie, _ = self._sent("GET", f"/?{self.address.query}", {})
        return cookie.partition(";")[0]

    def _sent(
        self, method: str, path: str, headers: dict[str, str], body: str | None = None
    ) -> tuple[int, str, bytes]:
        """The status, the cookie and the body of an answer."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheader("set-cookie") or "", response.read()

    def get(self, path: str) -> JsonValue:
        value: JsonValue = json.loads(self._sent("GET", path, {"Cookie": self.cookie})[2])
        return value

    def post(self, path: str, body: JsonValue) -> int:
        headers = {"Cookie": self.cookie, "Origin": f"http://127.0.0.1:{self.port}"}
        return self._sent("POST", path, headers, json.dumps(body))[0]


@contextmanager
def reviewing(*arguments: object) -> Iterator[Server]:
    command = [sys.executable, "-m", "pipeline", "review", *map(str, arguments), "--no-browser",
               "--port", "0", "--sam", "none"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.kill()
        process.communicate()


def accept(server: Server, number: int) -> int:
    change: JsonValue = {"id": number, "revision": 0, "state": "accepted"}
    return server.post("/api/act", {"kind": "accept", "image": 1, "object": number,
                                    "objects": [change]})  # fmt: skip


def test_what_was_done_before_a_kill_is_there_and_is_undone_after_it(tmp_path: Path) -> None:
    labels = draw_labels(tmp_path)
    before = labels.read_bytes()
    with reviewing(labels, "--as", "Ann") as server:
        assert (server.address.hostname, server.address.path) == ("127.0.0.1", "/")
        assert accept(server, 1) == 200
        os.kill(server.process.pid, signal.SIGKILL)
    with reviewing(labels, "--as", "Ben") as server:
        news = server.get("/api/changes?since=0")
        assert isinstance(news, dict)
        actions = news["actions"]
        assert isinstance(actions, list)
        assert [(a["who"], a["kind"]) for a in actions if isinstance(a, dict)] == [
            ("Ann", "accept")
        ]
        assert server.post("/api/undo", {}) == 200
        server.process.send_signal(signal.SIGINT)
        output, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 0
        assert "actions: 2" in output
    assert labels.read_bytes() == before


def test_a_second_server_of_one_session_is_one_line(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    labels = draw_labels(tmp_path)
    with reviewing(labels):
        ended = call_pipeline("review", labels, "--no-browser")
    assert ended.code == 2
    assert "is being reviewed through process" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_labels_that_were_edited_beneath_are_named_and_the_review_goes_on(tmp_path: Path) -> None:
    labels = draw_labels(tmp_path)
    with reviewing(labels) as server:
        accept(server, 1)
    labels.write_text(labels.read_text().replace("crack", "scratch"))
    with reviewing(labels) as server:
        about = server.get("/api/session")
        assert isinstance(about, dict)
        assert about["categories"] == ["crack", "stain"]
        assert "was changed after this review began" in str(about["notices"])


def test_images_that_moved_are_one_line_and_found_again(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    labels = draw_labels(tmp_path)
    with reviewing(labels):
        pass
    (tmp_path / "images").rename(tmp_path / "photos")
    ended = call_pipeline("review", labels, "--no-browser")
    assert (ended.code, "no such image; give their folder with --images" in ended.stderr) == (
        2,
        True,
    )
    with reviewing(labels, "--images", tmp_path / "photos") as server:
        image = server.get("/api/image/1")
        assert isinstance(image, dict)
        assert image["levels"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.json"], "no such file or folder; give a COCO file"),
        (["."], "holds no instances.json; give a COCO file, or the folder of segment"),
        (["empty.json"], "lists no image"),
        (["instances.json", "--host", "203.0.113.1"], "cannot be listened on"),
        (["instances.json", "--session", "no/folder/s.review"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    call_pipeline: CallPipeline,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    if arguments != ["."]:
        draw_labels(tmp_path)
    (tmp_path / "empty.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "no").write_text("a file where a folder should be")
    monkeypatch.chdir(tmp_path)
    ended = call_pipeline("review", *arguments, "--no-browser", "--sam", "none")
    assert (ended.code, message in ended.stderr) == (2, True), ended.stderr
    assert ended.stderr.count("\n") == 1
