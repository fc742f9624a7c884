"""What is checked before a request reaches the app: its key and the size of its body; every response is counted."""

import asyncio
import hmac
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deltaprune.serve.errors import ApiError
from deltaprune.serve.metrics import Metrics
from deltaprune.serve.settings import MIB, Settings

DRAINED, PATIENCE = (
    256 * MIB,
    30.0,
)  # bytes and seconds of a refused body that are still read, so that the answer arrives
GUARDED = "/v1/"


class Gate:
    """ASGI middleware. The body is read here, at most `settings.max_body` bytes, and handed on in one piece."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics):
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _path(scope).startswith(GUARDED):
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check_key(headers.get("authorization", ""))
            body = await self._body(headers.get("content-length", ""), receive)
        except ApiError as error:
            await _drain(receive)
            await JSONResponse(error.body, error.status, error.headers)(scope, receive, counted)
            return
        if body is not None:
            await self.app(scope, _replayed(body, receive), counted)

    def _check_key(self, given: str) -> None:
        if self.settings.api_key is None:
            return
        scheme, _, key = given.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self.settings.api_key.encode()):
            what = "The API key is wrong" if key else "There is no API key"
            raise ApiError(401, f"{what}: send the server's as 'Authorization: Bearer KEY'.", code="invalid_api_key")

    async def _body(self, length: str, receive: Receive) -> bytes | None:
        """The whole body; None if the client has disconnected."""
        most = self.settings.max_body
        sentence = f"The request is larger than {most / MIB:g} MiB: send a smaller picture or less text."
        if length.isdecimal() and int(length) > most:
            raise ApiError(413, sentence, code="request_too_large")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise ApiError(413, sentence, code="request_too_large")
            if not message.get("more_body", False):
                return b"".join(parts)


def _path(scope: Scope) -> str:
    """The path within this app, by which it chooses the route: without the one that it is mounted at."""
    root, path = scope.get("root_path", ""), scope["path"]
    return path[len(root) :] if path.startswith(f"{root}/") else path


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, then whatever comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _drain(receive: Receive) -> None:
    """Read the rest of a refused body and forget it: many clients look at the answer only when they have sent all."""

    async def read() -> None:
        left = DRAINED
        while left > 0:
            message: Any = await receive()
            left -= len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return

    try:
        await asyncio.wait_for(read(), PATIENCE)
    except TimeoutError:
        return
