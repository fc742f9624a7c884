"""A clock that waits for the device."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def wait(device: torch.device) -> None:
    """Let a GPU finish what it was given, so that the clock sees it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """What `run` returns, and how many milliseconds it took."""
    wait(device)
    start = time.perf_counter()
    result = run()
    wait(device)
    return result, 1000 * (time.perf_counter() - start)
