"""Layers that a user names: a list from Python, "1-14+17" on a command line, where commas part the fields."""

import re
from collections.abc import Iterable

from deltaprune.errors import UserError


def layers_of(name: str, layers: str | int | Iterable[int]) -> tuple[int, ...]:
    """Layer numbers from a list, or from a text such as "1-14+17"; ascending, each once.

    Raises:
        UserError: it is neither.
    """
    numbers = (layers,) if isinstance(layers, int) else _read(layers) if isinstance(layers, str) else layers
    if isinstance(numbers, Iterable):
        listed = tuple(numbers)
        if all(isinstance(l, int) and not isinstance(l, bool) and l >= 0 for l in listed):
            return tuple(sorted(set(listed)))
    raise UserError(f"{name}={layers!r} must be a list of layers counted from 0, such as (1, 2, 3) or '1-3+7'.")


def _read(text: str) -> list[int] | None:
    """The numbers of "1-3+7"; None where it is no such text."""
    found: list[int] = []
    for part in text.split("+"):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part, re.ASCII)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            return None
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found
