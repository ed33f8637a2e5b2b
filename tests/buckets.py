"""A real S3 server on loopback (moto's), whose answers a test may spoil."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.io.remote.marker import MARKER

SECRET = "a-secret-that-nobody-may-see"
KEY_ID = "AKIAANIDTHATNOBODYSEES"

Environment = dict[str, Any]
Fault = Callable[[Environment], str]  # "", "503", "truncated", "slow" or "hangs", by the request


def no_fault(_: Environment) -> str:
    return ""


def first(count: int, fault: str, method: str = "", part: str = "") -> Fault:
    """The fault for the first `count` requests of this method whose path holds `part`."""
    left = [count]

    def choose(request: Environment) -> str:
        is_meant = (method or request["REQUEST_METHOD"]) == request["REQUEST_METHOD"]
        if is_meant and part in request["PATH_INFO"] and left[0]:
            left[0] -= 1
            return fault
        return ""

    return choose


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, without what tells one run from another."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return without_runs({n: path.read_bytes() for n, path in files.items() if path.is_file()})


def without_runs(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files by name, without what tells one run from another."""
    return {
        name: data
        for name, data in files.items()
        if name.rpartition("/")[2] not in ("run.json", MARKER)
    }


@dataclass
class Bucket:
    """A bucket of the server. requests: `METHOD /path` of every request so far."""

    name: str
    endpoint: str
    server: Spoiled
    client: Any

    @property
    def address(self) -> str:
        return f"s3://{self.name}"

    @property
    def requests(self) -> list[str]:
        return self.server.requests

    def spoil(self, fault: Fault) -> None:
        self.server.fault = fault

    def put(self, folder: Path, prefix: str = "") -> None:
        """Upload a folder, as another tool does."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                key = f"{prefix}/{name}" if prefix else name
                self.client.put_object(Bucket=self.name, Key=key, Body=path.read_bytes())

    def files(self, prefix: str = "") -> dict[str, bytes]:
        """All objects below a prefix by the rest of their names, without the marker."""
        start = f"{prefix}/" if prefix else ""
        pages = self.client.get_paginator("list_objects_v2")
        found = {}
        for page in pages.paginate(Bucket=self.name, Prefix=start):
            for row in page.get("Contents", ()):
                body = self.client.get_object(Bucket=self.name, Key=row["Key"])["Body"].read()
                found[row["Key"].removeprefix(start)] = body
        return found

    def gets(self) -> list[str]:
        """The keys of photos and labels that were downloaded so far, without markers."""
        names = (line.removeprefix(f"GET /{self.name}/") for line in self.requests)
        wanted = [name for name in names if "." in name and not name.startswith(("GET", "PUT"))]
        return [name for name in wanted if " " not in name and MARKER not in name]


@dataclass
class Spoiled:
    """moto's server, with a fault before some of its answers."""

    inner: Any
    fault: Fault = no_fault
    requests: list[str] = field(default_factory=list)

    def __call__(self, request: Environment, start: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append(f"{request['REQUEST_METHOD']} {request['PATH_INFO']}")
        fault = self.fault(request)
        if fault == "503":
            request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
            body = b"<Error><Code>SlowDown</Code><Message>Please slow down</Message></Error>"
            start("503 Slow Down", [("Content-Length", str(len(body)))])
            return [body] if request["REQUEST_METHOD"] != "HEAD" else []
        if fault == "slow":
            time.sleep(0.3)
        if fault == "hangs":
            threading.Event().wait(60)
        answer: Iterable[bytes] = self.inner(request, start)
        return _half(answer) if fault == "truncated" else answer


def _half(answer: Iterable[bytes]) -> Iterator[bytes]:
    body = b"".join(answer)
    yield body[: len(body) // 2]
    raise ConnectionError("the rest is lost")


@contextmanager
def serving_buckets() -> Iterator[tuple[str, Spoiled]]:
    """The address of a server, and the server; skips the test where moto is missing."""
    pytest.importorskip("moto", reason="moto is not installed: no S3 server")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    import logging

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = Spoiled(DomainDispatcherApplication(create_backend_app))
    listener = make_server("127.0.0.1", 0, server, threaded=True)
    vars(listener)["daemon_threads"] = True
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}", server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
