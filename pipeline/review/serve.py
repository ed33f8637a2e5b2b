"""Running the server until Ctrl-C: one address, one session, one process."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from pipeline.errors import ConfigError
from pipeline.review.guard import Guard
from pipeline.runtime.signals import Stopped

PORT = 8765  # the first that is tried
_TRIED = 20  # ports after it
_LAST_S = 10.0  # at most, for the answers under way
SERVER = "review-server"  # the name of its thread
_STEP_S = 0.2  # between two looks at whether a signal came


def serve(
    app: ASGIApp,
    host: str,
    port: int | None,
    opened: Callable[[str], None],
    token: str | None = None,
) -> None:
    """Serve until Ctrl-C, which is the usual end. opened: gets the address with its token once the
    server listens. port: None takes the first free one from `PORT` on.

    Raises ConfigError for an address or a port that cannot be used.
    """
    token = token or secrets.token_urlsafe(24)
    listener = listening(host, port)
    number = listener.getsockname()[1]
    config = uvicorn.Config(
        Guard(app, token, host, number), http="h11", ws="none", lifespan="off", loop="asyncio",
        access_log=False, proxy_headers=False, log_level="critical", server_header=False,
        limit_concurrency=200, timeout_keep_alive=15, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server, ended = uvicorn.Server(config), threading.Event()
    words = (server, listener, ended)
    threading.Thread(target=_run, args=words, daemon=True, name=SERVER).start()
    try:
        opened(f"http://{_name(host)}:{number}/?token={token}")
        while not ended.wait(_STEP_S):
            pass
    except Stopped as stop:
        if stop.number != signal.SIGINT:
            raise
    except KeyboardInterrupt:
        pass
    finally:
        server.should_exit = True
        ended.wait(_LAST_S)
        server.force_exit = True  # a browser that keeps its connections does not keep the server
        if ended.wait(_LAST_S):
            listener.close()


def _run(server: uvicorn.Server, listener: socket.socket, ended: threading.Event) -> None:
    """Serve, then set `ended`. `Thread.join` cannot say so: after a signal that raises within it,
    Python takes the thread for ended while it still runs (bpo-45274)."""
    try:
        server.run([listener])
    finally:
        ended.set()


def listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens. Raises ConfigError."""
    ports = range(PORT, PORT + _TRIED) if port is None else (port,)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    fault: OSError | None = None
    for number in ports:
        # with its protocol: else asyncio leaves Nagle on, and each answer waits 40 ms for the page
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(64)
            return listener
        except (OSError, OverflowError) as error:
            fault = error if isinstance(error, OSError) else OSError(str(error))
            listener.close()
    reason = fault.strerror if fault and fault.strerror else str(fault)
    remedy = "choose another --port" if port is not None else "choose another --host"
    raise ConfigError(f"{host}:{port or PORT}: cannot be listened on ({reason}); {remedy}")


def open_browser(address: str) -> None:
    """Open the page in the user's browser, if there is one."""
    with suppress(webbrowser.Error, OSError):
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _name(host: str) -> str:
    return "127.0.0.1" if host in {"", "0.0.0.0"} else f"[{host}]" if ":" in host else host
