"""Layers that a user names: a list from Python, "0+3-5" on a command line, where commas part the fields."""

import re
from collections.abc import Sequence
from typing import Any

from deltaprune.errors import UserError


def as_layers(layers: Any) -> tuple[int, ...]:
    """The layers, ascending, each once.

    Args:
        layers: numbers from 0 up, one number, or a text of numbers and ranges joined by plus signs.

    Raises:
        UserError: anything else.
    """
    numbers = [layers] if isinstance(layers, int) else _read(layers) if isinstance(layers, str) else layers
    if not isinstance(numbers, Sequence) or not all(type(l) is int and l >= 0 for l in numbers):
        raise UserError(f"layers={layers!r} are not layers: give numbers from 0 up, (0, 3, 4, 5), or the text 0+3-5.")
    return tuple(sorted(set(numbers)))


def _read(text: str) -> list[int] | None:
    """The numbers of "0+3-5"; None where it is no such text."""
    found: list[int] = []
    for part in text.split("+"):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part, re.ASCII)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            return None
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found
