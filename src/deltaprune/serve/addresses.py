"""Fetching a picture from the web without lending the server's place in its network to strangers.

The host's addresses are looked up once; all of them must be public, and the connection goes to one of those looked up,
not to the name, which may lead elsewhere a moment later. A redirect is an address like any other.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

from deltaprune.errors import in_words
from deltaprune.serve.errors import ApiError

REDIRECTS, SECONDS, CHUNK = 3, 10.0, 65536
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, also where it holds an IPv4 address inside."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def fetch(url: str, most: int, seconds: float = SECONDS) -> bytes:
    """What is at an address.

    Args:
        url: http or https.
        most: bytes.
        seconds: for all of it, redirects included.

    Raises:
        ApiError: it is not public, cannot be read, is too slow or too large.
    """
    until = time.monotonic() + seconds
    for _ in range(REDIRECTS + 1):
        try:
            status, location, content = _get(url, most, until)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _bad(f"The image's address cannot be read ({in_words(error)}): send it as a data URI.") from error
        if location is None:
            if status != 200:
                raise _bad(f"The image's address answered with status {status}: send the image as a data URI.")
            return content
        url = urljoin(url, location)
    raise _bad(f"The image's address redirects more than {REDIRECTS} times: give the last one.")


def _get(url: str, most: int, until: float) -> tuple[int, str | None, bytes]:
    """Status, where a redirect leads, and the content of one address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad("The image's address is not http or https: send the image as a data URI.")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(map(is_public, addresses)):
        raise _bad("The image's address is not a public one: send the image as a data URI.")
    connection = _connection(parts.scheme, parts.hostname, port, addresses[0], _left(until))
    late = threading.Timer(max(0.0, until - time.monotonic()), _hang_up, [connection.sock])
    late.daemon = True
    late.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path, headers={"User-Agent": "deltaprune", "Accept": "image/*"})
        with connection.getresponse() as answer:
            if answer.status in (301, 302, 303, 307, 308):
                return answer.status, answer.headers.get("Location", ""), b""
            return answer.status, None, _read(answer, connection, most, until)
    finally:
        late.cancel()
        connection.close()


def _connection(scheme: str, host: str, port: int, address: str, seconds: float) -> http.client.HTTPConnection:
    """Opened to this very address; the certificate must be the host's."""
    made: Any = http.client.HTTPConnection(host, port, timeout=seconds)
    made.sock = socket.create_connection((address, port), timeout=seconds)
    try:
        if scheme == "https":
            made.sock = ssl.create_default_context().wrap_socket(made.sock, server_hostname=host)
    except BaseException:
        made.close()
        raise
    return made


def _hang_up(opened: socket.socket) -> None:
    """End a connection whose time is up; the socket's own timeout begins anew with every byte that comes."""
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


def _read(answer: http.client.HTTPResponse, connection: Any, most: int, until: float) -> bytes:
    content = bytearray()
    while True:
        if connection.sock is not None:
            connection.sock.settimeout(_left(until))
        else:
            _left(until)
        chunk = answer.read1(CHUNK)
        if not chunk:
            _left(until)  # it may have ended because its time was up
            return bytes(content)
        content += chunk
        if len(content) > most:
            raise _bad(f"The image at the address has more than {most} bytes: scale it down first.")


def _left(until: float) -> float:
    """Seconds that are left; none is an OSError."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    return left


def _bad(message: str) -> ApiError:
    return ApiError(400, message, "messages", "invalid_image")
