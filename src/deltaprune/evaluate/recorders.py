"""`Recorder`: receives the results of an evaluation. `Tracker` is one for Weights & Biases and Trackio."""

import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, Protocol, runtime_checkable

from deltaprune.errors import UserError, did_you_mean, in_words
from deltaprune.evaluate.results import MethodResult, Report

TRACKERS = ("trackio", "wandb")
ABOUT = ("model", "benchmark", "protocol", "split", "seed", "note", "n", "total")  # the same in all rows
NUMBERS = ("mean", "agreement", "macs_share", "text_tokens", "ms", "floor")
_LOG = logging.getLogger("deltaprune.evaluate")


@runtime_checkable
class Recorder(Protocol):
    """Called by `evaluate(..., recorders=[...])`, in its own thread, after all questions are answered.

    The methods are evaluated side by side, so no row is final before the last question. An error in a recorder is
    logged and has no other effect.
    """

    def on_row(self, row: MethodResult) -> None:
        """One method's row, in the order of the methods."""
        ...

    def on_report(self, report: Report) -> None:
        """All rows, after the last `on_row`."""
        ...


def check_recorders(recorders: Any) -> None:
    """Check before the work that each is a recorder, else a `UserError`."""
    if not isinstance(recorders, list | tuple):
        raise UserError(f"recorders= takes a list of recorders, not a {type(recorders).__name__}.")
    for recorder in recorders:
        if not isinstance(recorder, Recorder):
            raise UserError(f"A {type(recorder).__name__} is not a recorder: it needs on_row(row), on_report(report).")


def tell(recorders: Sequence[Recorder], report: Report) -> None:
    """Call each recorder with every row, then with the report."""
    for recorder in recorders:
        try:
            for row in report:
                recorder.on_row(row)
            recorder.on_report(report)
        except Exception as error:
            _LOG.warning("%s failed (%s); the results are complete", type(recorder).__name__, in_words(error))


class Tracker:
    """A run of Weights & Biases or of Trackio, whose API is the same: a step for each row, then a table of all.

    Args:
        package: "wandb" or "trackio"; it has to be installed.
        project: the run's project.
        options: passed to its `init`, such as `name=` or wandb's `mode="offline"`.

    Raises:
        UserError: another name, or it is not installed.
    """

    def __init__(self, package: str, project: str = "deltaprune", **options: Any):
        if package not in TRACKERS:
            raise UserError(f"There is no tracker {package!r}: {did_you_mean(package, TRACKERS)}.")
        try:
            self.module: Any = importlib.import_module(package)
        except ImportError as error:
            raise UserError(f"{package} is not installed: pip install {package}.") from error
        self.project, self.options, self.started = project, options, False

    def on_row(self, row: MethodResult) -> None:
        """A step with the method, its numbers and its skills."""
        with redirect_stdout(sys.stderr):  # stdout is for a command's rows only
            if not self.started:
                about = {name: getattr(row, name) for name in ABOUT}
                self.module.init(project=self.project, config=about, **self.options)
                self.started = True
            self.module.log(_step(row))

    def on_report(self, report: Report) -> None:
        """The rows as a table; the run ends."""
        columns = ["method", *NUMBERS, "kept"]
        lines = [[row.method, *(getattr(row, name) for name in NUMBERS), _kept(row)] for row in report]
        with redirect_stdout(sys.stderr):
            self.module.log({"methods": self.module.Table(columns=columns, data=lines)})
            self.module.finish()


def open_tracker(text: str) -> Tracker:
    """`"wandb"` or `"wandb:PROJECT"` -> the tracker; raises what `Tracker` does."""
    package, _, project = text.partition(":")
    return Tracker(package, project) if project else Tracker(package)


def _step(row: MethodResult) -> Mapping[str, Any]:
    skills = {f"skill/{name}": value for name, value in row.by_skill.items()}
    return {"method": row.method, **{name: getattr(row, name) for name in NUMBERS}, **skills, **row.metrics}


def _kept(row: MethodResult) -> str:
    return ", ".join(map(str, row.kept)) or "all"
