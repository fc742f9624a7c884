"""A server in this process, on a free port of the loopback, and the client of OpenAI's package."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from chats import Served, png
from serving import running

from deltaprune.benchmarks.scenes import Scene
from deltaprune.mllm.processor import Processor
from deltaprune.serve.app import create_app
from deltaprune.serve.settings import Settings
from deltaprune.vlm import VLM

Serve = Callable[..., Served]


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
