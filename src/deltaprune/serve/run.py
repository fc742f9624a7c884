"""An app on a port, until a signal stops it."""

import signal
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from deltaprune.errors import UserError, in_words


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except (OSError, OverflowError) as error:
        opened.close()
        raise UserError(
            f"The server cannot listen at {host}:{port} ({in_words(error)}): choose another --port or --host."
        ) from error
    return opened


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]):
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def run(app: FastAPI, opened: socket.socket, grace: float, ready: Callable[[], None] = lambda: None) -> bool:
    """Serve until Ctrl-C or SIGTERM; what runs then is finished within `grace` seconds.

    uvicorn raises the signal again when it is done, which would end this process with the signal's code: meanwhile the
    signals do nothing.

    Returns:
        True if it stopped on a signal; False if it could not start.
    """
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=max(1, round(grace)), lifespan="on")
    server = _Server(config, ready)
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return server.started


def _ignore(number: int, frame: object) -> None:
    """Nothing: uvicorn has stopped already."""
