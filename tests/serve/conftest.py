"""A server in this process, on a free port of the loopback, and the client of OpenAI's package."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import uvicorn
from chats import Served, png
from fastapi import FastAPI

from deltaprune.benchmarks.scenes import Scene
from deltaprune.mllm.processor import Processor
from deltaprune.serve.app import create_app
from deltaprune.serve.run import listen
from deltaprune.serve.settings import Settings
from deltaprune.vlm import VLM

Serve = Callable[..., Served]


@contextlib.contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The app behind a real uvicorn in a thread; gives its address."""
    opened = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve(tiny: tuple[VLM, Processor]) -> Iterator[Serve]:
    """Start a server of the tiny model, with these settings; one for each set of settings, until the tests end."""
    with contextlib.ExitStack() as stack:
        known: dict[Settings, Served] = {}

        def start(**values: Any) -> Served:
            settings = Settings(**{"name": "tiny", **values})
            if settings not in known:
                app = create_app(*tiny, settings)
                url = stack.enter_context(running(app))
                client = openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0, timeout=60)
                stack.enter_context(client)
                known[settings] = Served(url, client, app)
            return known[settings]

        yield start


@pytest.fixture(scope="session")
def served(serve: Serve) -> Served:
    """The server with the usual settings."""
    return serve()


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """PNG files of a few scenes."""
    return [png(Scene.from_seed(seed).image) for seed in range(4)]
