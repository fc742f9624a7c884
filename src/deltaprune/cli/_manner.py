"""How a command speaks: in which form it prints its rows, and how much it tells on stderr meanwhile."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from deltaprune.errors import UserError, did_you_mean

FORMS = ("table", "json", "csv", "latex", "md")
LOG = logging.getLogger("deltaprune")


@dataclass(frozen=True)
class Manner:
    """One command's.

    Attributes:
        form: one of `FORMS`.
        loudness: -1 errors only, 0 progress and warnings, 1 also information, 2 also what is for debugging.
    """

    form: str = "table"
    loudness: int = 0


_manner: ContextVar[Manner | None] = ContextVar("manner", default=None)


def manner() -> Manner:
    """Of the command that runs."""
    return _manner.get() or Manner()


def chosen_form(form: str | None, json: bool) -> str:
    """The form that --format and --json ask for; a `UserError` if there is no such form, or if they disagree."""
    if form is not None and form not in FORMS:
        raise UserError(f"There is no format {form!r}: {did_you_mean(form, FORMS)}.")
    if json and form not in (None, "json"):
        raise UserError(f"--json and --format {form} are two formats: ask for one of them.")
    return form or ("json" if json else "table")


@contextmanager
def spoken(form: str, verbose: int, quiet: bool) -> Iterator[None]:
    """Within it, commands print in this form and tell this much; the package's logger is as it was afterwards."""
    if verbose and quiet:
        raise UserError("--verbose and --quiet are opposites: leave one of them out.")
    loudness = -1 if quiet else min(verbose, 2)
    level, handler = LOG.level, _Stderr()
    token = _manner.set(Manner(form, loudness))
    if loudness:
        LOG.setLevel({-1: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG}[loudness])
        LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        _manner.reset(token)


class _Stderr(logging.Handler):
    """Lines on whatever stderr is at that moment: a bar of progress puts itself in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        print(self.format(record), file=sys.stderr, flush=True)
