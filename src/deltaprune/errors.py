"""What goes wrong, told in one sentence; and the nearest right answer."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """The user's mistake, told in one sentence: what was wrong, the rule, the nearest right answer."""


class NotFinite(ArithmeticError):
    """NaN or infinity where a number must be: weights or activations overflowed, told in one sentence."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known names as a half sentence, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    listed = f"the known ones are {', '.join(known)}" if known else "there are none"
    return f"did you mean {near[0]!r}? ({listed})" if near else listed


def in_words(error: BaseException) -> str:
    """An error of somebody else's code on one line, for a sentence of ours."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": .")
