"""Progress on stderr."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

LINE_EVERY = 10.0  # seconds between lines of progress where stderr is a file


class Working:
    """Progress on stderr: a line with a spinner, and a bar while something is counted; gone when the block ends.

    Where stderr is no terminal, counting writes a line every ten seconds and everything else is silent.
    """

    def __init__(self, message: str):
        console = Console(stderr=True)
        self._live = console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not self._live)
        self._message = message
        self._task = self._progress.add_task(message, total=None)
        self._counting = False
        self._last_line = time.monotonic()

    def say(self, message: str) -> None:
        """What is being done now."""
        self._message = message
        self._progress.update(self._task, description=message)

    def count(self, done: int, total: int) -> None:
        """How far it is."""
        if not self._counting:
            self._counting = True
            self._progress.columns = (
                *self._progress.columns,
                BarColumn(),
                TextColumn("{task.completed} of {task.total}"),
            )
        self._progress.update(self._task, completed=done, total=total)
        if not self._live and time.monotonic() - self._last_line > LINE_EVERY:
            self._last_line = time.monotonic()
            print(f"{self._message}: {done} of {total}", file=sys.stderr, flush=True)

    def __enter__(self) -> "Working":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
