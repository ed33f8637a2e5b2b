"""The server and the signal that ends it."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from types import FrameType
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send

from pipeline.review.serve import SERVER, serve
from pipeline.runtime.signals import Stopped


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers each request, and sends a signal to its own process."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_listener_is_closed_once_the_server_has_ended(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal raises while the main thread waits. Ctrl-C is the usual end; another one goes on."""
    ports, pause = [0], threading.Event()
    faults: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=20)
        connection.request("GET", "/", headers={"Cookie": f"review_{ports[0]}=secret"})
        connection.getresponse().read()
        connection.close()

    def opened(address: str) -> None:
        ports[0] = urlsplit(address).port or 0
        threading.Thread(target=ask, daemon=True).start()

    def stop(_: int, frame: FrameType | None) -> None:
        del frame
        raise Stopped(number)

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        if number == signal.SIGINT:
            serve(app, "127.0.0.1", 0, opened, "secret")
        else:
            with pytest.raises(Stopped):
                serve(app, "127.0.0.1", 0, opened, "secret")
    finally:
        signal.signal(signal.SIGUSR1, before)
    while SERVER in [each.name for each in threading.enumerate()]:
        pause.wait(0.01)
    assert faults == []
    with pytest.raises(ConnectionRefusedError):
        ask()
