"""Who may talk to the server: the page that was opened with the token, on this machine's name.

A web site in the same browser can send requests to this server. It cannot read the answers, and
what it sends has another Origin; a site whose name is pointed at this machine (DNS rebinding) has
another Host. A person on the machine without the token gets nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import platform
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 8 << 20  # of a request's body
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
_SAFE = {"GET", "HEAD"}
_OPEN_AGAIN = "open the address that `pipeline review` printed"


class TooLargeError(Exception):
    """A body of more bytes than any action has; raised where it is read."""


class Guard:
    """ASGI middleware. token: in the address that opens the page; then in a cookie."""

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self._app, self._token = app, token
        self._cookie = f"review_{port}"
        self._port = port
        self._is_open = _is_any(host)
        self._names = {"127.0.0.1", "localhost", "[::1]", host.lower(), f"[{host.lower()}]"}
        self._names |= {platform.node().lower()} if self._is_open else set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        sent = _with_headers(send)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, sent)
            return
        await self._app(scope, _bounded(receive), sent)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = _headers(scope)
        if len(headers.get("host", ())) != 1 or not self._is_own(headers["host"][0]):
            return PlainTextResponse(f"another host; {_OPEN_AGAIN}", 421)
        origin = f"http://{headers['host'][0]}"
        if any(value != origin for value in headers.get("origin", ())):
            return PlainTextResponse("another origin", 403)
        if scope["method"] not in _SAFE and "origin" not in headers:
            return PlainTextResponse("no origin", 403)
        if headers.get("sec-fetch-site", ["none"])[0] not in {"none", "same-origin"}:
            return PlainTextResponse("another site", 403)
        if _length(headers) > MOST_BYTES:
            return PlainTextResponse("too large", 413)
        return self._without_token(scope, headers.get("cookie", []))

    def _without_token(self, scope: Scope, cookies: list[str]) -> Response | None:
        """The answer to a request without the cookie; None where it is there. The address with the
        token sets it."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if given and scope["path"] == "/" and self._matches(given):
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return response
        if any(self._matches(value) for value in _values(cookies, self._cookie)):
            return None
        return PlainTextResponse(f"no token; {_OPEN_AGAIN}", 403)

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _is_own(self, host: str) -> bool:
        """Whether a Host is this server's: a name that it was given, or, where it listens on every
        address, any address; a site's name is none."""
        name, colon, port = host.lower().rpartition(":")
        if not colon or port != str(self._port):
            return False
        return name in self._names or (self._is_open and _is_address(name))


def _is_any(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _length(headers: dict[str, list[str]]) -> int:
    text = headers.get("content-length", ["0"])[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else MOST_BYTES + 1


def _values(cookies: Iterable[str], name: str) -> Iterable[str]:
    for text in cookies:
        try:
            parsed = SimpleCookie(text)
        except CookieError:
            continue
        if name in parsed:
            yield parsed[name].value


def _bounded(receive: Receive) -> Receive:
    """Receive a body of any stated length, but no more bytes than an action has."""
    total = 0

    async def receive_some() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MOST_BYTES:
            raise TooLargeError
        return message

    return receive_some


def _with_headers(send: Send) -> Send:
    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.start":
            named = {name.lower() for name, _ in message["headers"]}
            added = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
            if b"cache-control" not in named:
                added.append((b"cache-control", b"no-store"))
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return send_all
