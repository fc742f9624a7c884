"""Layers given by a user: a list in Python, "1-14+17" on a command line, where commas separate fields."""

import re
from collections.abc import Iterable

from deltaprune.errors import UserError
from deltaprune.plan import Shape

MOST = 2**15  # numbers in a text: no picture has more tokens, and a few letters must not fill the memory
DIGITS = 9


def layers_of(name: str, layers: str | int | Iterable[int]) -> tuple[int, ...]:
    """Layer numbers from a list, or from a text such as "1-14+17"; ascending, each once.

    Raises:
        UserError: it is neither.
    """
    return numbers_of(name, layers, "layers")


def numbers_of(name: str, given: str | int | Iterable[int], what: str) -> tuple[int, ...]:
    """As `layers_of`, for other things that are counted from 0; `what` is their name in the message."""
    numbers = (given,) if isinstance(given, int) else _read(given) if isinstance(given, str) else given
    if isinstance(numbers, Iterable):
        listed = tuple(numbers)
        if all(isinstance(l, int) and not isinstance(l, bool) and l >= 0 for l in listed):
            return tuple(sorted(set(listed)))
    raise UserError(f"{name}={given!r} must be a list of {what} counted from 0, such as (1, 2, 3) or '1-3+7'.")


def check_order(shape: Shape, first: int, late: int | None, name: str = "early") -> None:
    """The late stage comes after the first one, else a `UserError` that names their fields, `name` and late.

    A layer beyond the model is left to `steps.check_steps`, which says so.
    """
    if late is not None and late <= first < shape.n_layers:
        raise UserError(
            f"{name}={first} is not below late={late}: choose a smaller {name}, a larger late, or late=none."
        )


def _read(text: str) -> list[int] | None:
    """The numbers of "1-3+7"; None where it is no such text.

    Raises:
        UserError: they are more than `MOST`.
    """
    found: list[int] = []
    for part in text.split("+"):
        match = re.fullmatch(rf"\s*(\d{{1,{DIGITS}}})\s*(?:-\s*(\d{{1,{DIGITS}}})\s*)?", part, re.ASCII)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            return None
        numbers = range(int(match[1]), int(match[2] or match[1]) + 1)
        if len(found) + len(numbers) > MOST:
            raise UserError(f"'{part.strip()}' makes more than {MOST} numbers: name fewer layers or patches.")
        found += numbers
    return found
