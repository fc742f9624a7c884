"""This process, one unit after the other."""

from collections.abc import Generator, Sequence
from typing import Any

from deltaprune.evaluate.engines import Answers, Place, check_here, registry


@registry.register("local")
def local(worker: Answers, units: Sequence[Any], place: Place) -> Generator[list[Any], None, None]:
    """See `Engine`."""
    check_here(place)
    for unit in units:
        yield list(worker.answer(unit))
