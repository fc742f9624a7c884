"""A command's output: the form in which it prints its rows, and how much it logs on stderr."""

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
    """The output settings of one command.

    Attributes:
        form: one of `FORMS`.
        loudness: -1 errors only, 0 progress and warnings, 1 also log level info, 2 also debug.
    """

    form: str = "table"
    loudness: int = 0


_manner: ContextVar[Manner | None] = ContextVar("manner", default=None)


def manner() -> Manner:
    """The output settings of the running command."""
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
    """A context with these output settings; the package's logger is restored afterwards."""
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
    """Writes to the current `sys.stderr`, which a progress bar replaces while it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        print(self.format(record), file=sys.stderr, flush=True)
