"""What Gradio leaves open, for the tests that open its pages."""

import asyncio
import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """What Gradio leaves open is collected here, where warnings about it are left out, and not in a later test.

    It makes an event loop for every page and closes none; the last one is asyncio's current loop until it gets another.
    """
    yield
    asyncio.set_event_loop(None)
    gc.collect()
