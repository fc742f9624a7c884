"""Progress on stderr."""

import logging
import sys
import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from deltaprune.cli._manner import manner

_LOG = logging.getLogger("deltaprune.cli")
LINE_EVERY = 10.0  # seconds between lines of progress where stderr is a file


class Working:
    """Progress on stderr: a line with a spinner, and a bar while something is counted, until the block ends.

    Where stderr is no terminal, counting writes a line every ten seconds and everything else is silent; with --quiet
    all is. Rate and time left count this run only, not what was there when counting began.
    """

    def __init__(self, message: str):
        console = Console(stderr=True)
        self._quiet = manner().loudness < 0
        self._live = console.is_terminal and not self._quiet
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not self._live)
        self._message = message
        self._task = self._progress.add_task(message, total=None)
        self._began: tuple[float, int] | None = None  # when counting began, and what was there already
        self._last_line = time.monotonic()

    def say(self, message: str) -> None:
        """What is being done now; with --verbose also a line of its own."""
        _LOG.info(message)
        self._message = message
        self._progress.update(self._task, description=message)

    def count(self, done: int, total: int) -> None:
        """How far it is."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
            self._progress.reset(self._task, completed=done)
            self._progress.columns = (
                *self._progress.columns,
                BarColumn(),
                TextColumn("{task.completed} of {task.total}"),
                TimeRemainingColumn(),
            )
        self._progress.update(self._task, completed=done, total=total)
        if not self._live and not self._quiet and now - self._last_line > LINE_EVERY:
            self._last_line = now
            print(f"{self._message}: {done} of {total}{self._pace(now, done, total)}", file=sys.stderr, flush=True)

    def _pace(self, now: float, done: int, total: int) -> str:
        """Rate and time left, once something is done."""
        assert self._began is not None
        began, before = self._began
        rate = (done - before) / max(now - began, 1e-9)
        return f", {rate:.1f} a second, {timedelta(seconds=round((total - done) / rate))} left" if rate > 0 else ""

    def __enter__(self) -> "Working":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
