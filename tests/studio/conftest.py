"""What the tests with Gradio share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """What Gradio leaves open is collected here, where warnings about it are left out, and not in a later test."""
    yield
    gc.collect()
