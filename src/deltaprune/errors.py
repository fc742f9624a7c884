"""Errors whose message is one sentence, and the nearest right answer to a misspelt name."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user. The message is one sentence: what was wrong, the rule, the nearest right answer."""


class NotFinite(ArithmeticError):
    """NaN or infinity where a number must be: weights or activations overflowed. The message is one sentence."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known names as a half sentence, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    listed = f"the known ones are {', '.join(known)}" if known else "there are none"
    return f"did you mean {near[0]!r}? ({listed})" if near else listed


def in_words(error: BaseException) -> str:
    """Another library's error on one line, to be quoted in a sentence of ours."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": .")
