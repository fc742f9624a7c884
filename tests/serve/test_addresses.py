"""Pictures from the web: public addresses only, redirects and names that lead inside included."""

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deltaprune.serve import addresses
from deltaprune.serve.addresses import fetch, is_public
from deltaprune.serve.errors import ApiError
from deltaprune.serve.images import picture_file
from deltaprune.serve.settings import Settings

INSIDE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "ff02::1",
)  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_a_public_address_is(address: str) -> None:
    assert is_public(address)


class Handler(http.server.BaseHTTPRequestHandler):
    """A picture, a redirect to it or elsewhere, a page that is too large or too slow."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/drop":
            self._drip()
            return
        if path in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[path])
            self.end_headers()
            return
        self.send_response(404 if path == "/missing" else 200)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has seen enough
            if path == "/slow":
                time.sleep(1)
            self.wfile.write(b"x" * (5000 if path == "/large" else 5))

    def _drip(self) -> None:
        """Two seconds of headers, each byte well within a socket's timeout."""
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-More: ")
            for _ in range(40):
                self.wfile.write(b"x")
                time.sleep(0.05)
            self.wfile.write(b"\r\n\r\nxxxxx")

    def log_message(self, format: str, *args: Any) -> None:
        return


REDIRECTS = {
    "/there": "/picture",
    "/round": "/round",
    "/inside": "http://10.0.0.1/secret",
    "/named": "http://metadata.example/secret",
    "/file": "file:///etc/passwd",
    "/lost": "",
}


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # so that closing it waits for what it still sends
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://web.example:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """web.example is the test's own server, as if that were a public one; metadata.example leads inside."""
    hosts = {"web.example": "127.0.0.1", "metadata.example": "169.254.169.254"}
    hosts |= {address: address for address in ("10.0.0.1", "127.0.0.1")}

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in hosts:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (hosts[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1" or is_public(address))


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("path", ["/picture", "/picture?a=b", "/there"])
def test_a_picture_is_fetched(web: str, path: str) -> None:
    assert fetch(web + path, 1000) == b"xxxxx"
    assert picture_file(web + path, Settings(allow_urls=True))[0] == b"xxxxx"


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/inside", "public"),
        ("/named", "public"),
        ("/file", "http"),
        ("/lost", "redirects"),
        ("/round", "redirects"),
        ("/missing", "404"),
        ("/large", "1000 bytes"),
        ("/slow", "cannot be read"),
    ],
)
def test_what_is_not_fetched(web: str, path: str, word: str) -> None:
    with pytest.raises(ApiError) as caught:
        fetch(web + path, 1000, seconds=0.5)
    assert caught.value.status == 400
    assert word in caught.value.message
    assert caught.value.message.endswith(".")


@pytest.mark.usefixtures("outside")
def test_the_time_is_for_all_of_it(web: str) -> None:
    start = time.monotonic()
    with pytest.raises(ApiError, match="cannot be read"):
        fetch(f"{web}/drop", 1000, seconds=0.5)
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a", "http://[::1]:9/a", "http://localhost:9/a", "https:///a"])
def test_this_machine_is_not_public(url: str) -> None:
    with pytest.raises(ApiError, match=r"public|not http"):
        picture_file(url, Settings(allow_urls=True))


@pytest.mark.usefixtures("outside")
def test_without_leave_nothing_is_fetched(web: str) -> None:
    with pytest.raises(ApiError, match="no pictures from the web"):
        picture_file(f"{web}/picture", Settings())
