"""Errors whose message is one sentence, and suggestions for misspelt names."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A user's mistake. The message is one sentence: what was wrong, the rule, the nearest right answer.

    It is a `ValueError`. A command prints it on stderr and ends with exit code 2.
    """


class NotFinite(ArithmeticError):
    """NaN or infinity in place of a number: weights or activations overflowed. The message is one sentence."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: the nearest known name, if one is near, and all known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    listed = f"the known ones are {', '.join(known)}" if known else "there are none"
    return f"did you mean {near[0]!r}? ({listed})" if near else listed


def in_words(error: BaseException) -> str:
    """Another library's error on one line, to be quoted in our own message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": .")
