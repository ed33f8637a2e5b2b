"""A review's server in a thread, and plain HTTP to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from pydantic import JsonValue

from pipeline.review.assistant import Assistant
from pipeline.review.figures import PackedQueue
from pipeline.review.guard import Guard
from pipeline.review.learner import Learner
from pipeline.review.picture_cache import PictureCache
from pipeline.review.remaining import RightLabels
from pipeline.review.serve import listening
from pipeline.review.server import Review, application
from pipeline.review.store import ReviewStore
from pipeline.review.views import About

TOKEN = "a token of this test"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> JsonValue:
        value: JsonValue = json.loads(self.body)
        return value


@dataclass(frozen=True)
class Client:
    """Requests as the page sends them; every part can be another."""

    port: int

    def send(
        self,
        path: str,
        body: object = None,
        *,
        method: str | None = None,
        host: str | None = None,
        origin: str | None = "",
        cookie: str | None = "",
        more: dict[str, str] | None = None,
    ) -> Answer:
        own = f"127.0.0.1:{self.port}"
        headers = {"Host": own if host is None else host, **(more or {})}
        if origin is not None and (body is not None or origin):
            headers["Origin"] = origin or f"http://{own}"
        if cookie is not None:
            headers["Cookie"] = cookie or f'review_{self.port}="{TOKEN}"'
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method or ("GET" if body is None else "POST"), path,
                                  skip_host=True, skip_accept_encoding=True)  # fmt: skip
            encoded = data.encode() if isinstance(data, str) else data
            if encoded is not None and "Content-Length" not in headers:
                headers["Content-Length"] = str(len(encoded))
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(encoded)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()


class _Server(uvicorn.Server):
    """A server that stops as soon as it should, and does not look for that every tenth of a
    second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._begun = threading.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        await self._ended.wait()

    def stop(self) -> None:
        self._begun.wait()
        self._loop.call_soon_threadsafe(self._ended.set)


@contextmanager
def served(
    session: Path,
    root: Path,
    assistant: Assistant | None = None,
    heatmaps: Path | None = None,
    run: Path | None = None,
) -> Iterator[Client]:
    """A server of a session. run: that learns, with one step of training."""
    with ReviewStore(session) as store:
        about = About(title="labels", who="Ann", notices=[], has_heat=heatmaps is not None)
        words = ("--steps", "1", "--device", "cpu", "--images", str(root))
        learner = Learner(store, run, words) if run else None
        parts = Review(store, PictureCache(root), assistant or Assistant(None), about,
                       PackedQueue(store), RightLabels(store), heatmaps, learner)  # fmt: skip
        listener = listening("127.0.0.1", 0)
        port = listener.getsockname()[1]
        app = Guard(application(parts), TOKEN, "127.0.0.1", port)
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_level="error",
                                proxy_headers=False)  # fmt: skip
        server = _Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield Client(port)
        finally:
            server.stop()
            thread.join()
            listener.close()
            if learner:
                learner.close()
