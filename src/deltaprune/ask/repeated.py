"""How often `ask` runs what it times."""

from collections.abc import Callable
from typing import TypeVar

REPEATS, BUDGET = 5, 500  # a time is the median of up to 5 runs, fewer if they take more than 500 ms together

T = TypeVar("T")


def repeated(run: Callable[[], T], took: Callable[[T], float]) -> list[T]:
    """The results of up to `REPEATS` runs, fewer if together they take more than `BUDGET` milliseconds."""
    results: list[T] = []
    while len(results) < REPEATS and sum(map(took, results)) <= BUDGET:
        results.append(run())
    return results
