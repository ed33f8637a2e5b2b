"""Attacks: other sites, other hosts, other people on the machine, and names that are script."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from review_server import TOKEN, Client, served
from review_sessions import draw_labels, session

from pipeline.errors import ConfigError, DataError
from pipeline.review.guard import MOST_BYTES, Guard
from pipeline.review.picture_cache import PictureCache
from pipeline.review.serve import listening
from pipeline.review.store import ReviewStore

ADDRESSES = ("/", "/page/main.js", "/api/session", "/api/queue", "/close-up/1", "/tile/1/0/0/0")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One server for all that is refused: nothing of it changes the session."""
    root = tmp_path_factory.mktemp("review")
    (root / "secret.png").write_bytes(b"a secret")
    with served(session(draw_labels(root)), root / "images") as client:
        yield client


@pytest.mark.parametrize("path", ADDRESSES)
def test_without_the_token_nothing_is_served(client: Client, path: str) -> None:
    for cookie in (None, "review=x", f'review_{client.port}="wrong"', "\x01=;;", f"x={TOKEN}"):
        answer = client.send(path, cookie=cookie)
        assert answer.status == 403
        assert b"no token" in answer.body


def test_the_address_with_the_token_sets_a_cookie_that_scripts_and_sites_do_not_get(
    client: Client,
) -> None:
    answer = client.send("/?token=" + TOKEN.replace(" ", "%20"), cookie=None)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.send("/?token=wrong", cookie=None).status == 403
    assert client.send("/api/session?token=" + TOKEN.replace(" ", "%20"), cookie=None).status == 403


@pytest.mark.parametrize("path", ADDRESSES)
def test_another_host_is_refused_as_dns_rebinding_would_send_it(client: Client, path: str) -> None:
    for host in ("evil.example", f"evil.example:{client.port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert client.send(path, host=host).status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_site_cannot_act_in_the_users_name(client: Client, origin: str) -> None:
    assert client.send("/api/undo", {}, origin=origin).status == 403
    assert client.send("/api/session", origin=origin).status == 403


def test_an_action_without_an_origin_is_refused(client: Client) -> None:
    assert client.send("/api/undo", {}, origin=None).status == 403
    assert client.send("/api/undo", {}, more={"Sec-Fetch-Site": "cross-site"}).status == 403


def test_a_body_is_bounded_whether_it_says_its_length_or_not(client: Client) -> None:
    for length in (str(MOST_BYTES + 1), "9" * 30):
        try:
            status = client.send("/api/act", {}, more={"Content-Length": length}).status
        except ConnectionResetError:  # it hung up before the body was sent: as good an answer
            status = 413
        assert status in {400, 413}
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        head = (
            f"POST /api/act HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
            f"Origin: http://127.0.0.1:{client.port}\r\nTransfer-Encoding: chunked\r\n"
            f'Cookie: review_{client.port}="{TOKEN}"\r\n\r\n'
        )
        line.sendall(head.encode())
        try:
            for _ in range(MOST_BYTES // 0x100000 + 1):
                line.sendall(chunk)
            answer = line.recv(100)
        except OSError:  # it hung up: as good an answer
            answer = b" 413 "
    assert b" 413 " in answer
    assert client.send("/api/session").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "//etc/passwd",
        "/page//etc/passwd", "/page/%2fetc%2fpasswd", "/tile/1/0/0/../../../../secret.png",
        "/close-up/..%2f..%2fsecret.png", "/api/image/1%00", "/images/part1.png", "/instances.json",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(client: Client, path: str) -> None:
    answer = client.send(path)
    assert answer.status in {400, 404}
    assert b"secret" not in answer.body
    assert b"import" not in answer.body


def test_a_session_cannot_name_an_image_elsewhere(tmp_path: Path) -> None:
    path = session(draw_labels(tmp_path))
    (tmp_path / "images" / "link.png").symlink_to("/etc/hostname")
    cases = (("../secret.png", "outside"), ("/etc/hostname", "outside"), ("link.png", "outside"))
    with ReviewStore(path) as store:
        pictures = PictureCache(tmp_path / "images")
        for place, fault in cases:
            store._database.execute("UPDATE images SET place = ? WHERE id = 1", (place,))
            with pytest.raises(DataError, match=fault):
                pictures.levels(store.image(1))


def test_names_are_text_in_json_and_no_page_may_run_what_is_not_its_own(tmp_path: Path) -> None:
    name = "<script>alert(1)<"
    with served(session(draw_labels(tmp_path, name=name)), tmp_path / "images") as client:
        answer = client.send("/api/session")
        assert answer.headers["content-type"] == "application/json"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_a_refusal_has_the_same_headers(client: Client) -> None:
    answer = client.send("/", cookie=None)
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_server_for_other_machines_takes_addresses_and_no_other_names() -> None:
    guard = Guard(lambda *_: None, "t", "0.0.0.0", 80)  # type: ignore[arg-type]
    assert guard._is_own("192.168.1.7:80")
    assert guard._is_own("[fe80::1]:80")
    assert not guard._is_own("evil.example:80")
    own = Guard(lambda *_: None, "t", "127.0.0.1", 80)  # type: ignore[arg-type]
    assert not own._is_own("192.168.1.7:80")


def test_a_port_that_is_taken_is_one_line() -> None:
    first = listening("127.0.0.1", 0)
    with first, pytest.raises(ConfigError, match="choose another --port"):
        listening("127.0.0.1", first.getsockname()[1])
    with pytest.raises(ConfigError, match="choose another --host"):
        listening("203.0.113.1", None)


def test_a_listener_names_its_protocol_so_that_small_answers_are_sent_at_once() -> None:
    """asyncio turns Nagle off where the socket says that it is of TCP, and nowhere else."""
    with listening("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
