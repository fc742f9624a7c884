"""How much a command tells on stderr: -v says each step, --quiet nothing but errors."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaprune.load import load

LOG = logging.getLogger("deltaprune.kernels")


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of progress would come out at once, and the model has something to say at every level."""
    monkeypatch.setattr("deltaprune.cli._progress.LINE_EVERY", 0)
    module = sys.modules[load.__module__]

    def talkative(*args: Any, **options: Any) -> Any:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            LOG.log(level, "said at %d", level)
        return load(*args, **options)

    monkeypatch.setattr(module, "load", talkative)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], model: Path) -> Callable[..., list[str]]:
    from deltaprune.cli import run

    def told(*options: str) -> list[str]:
        assert run(["bench", "--model", str(model), "--rounds", "1", "--json", *options]) == 0
        return capsys.readouterr().err.splitlines()

    return told


def said(lines: list[str]) -> list[int]:
    return [int(line.split()[-1]) for line in lines if "said at" in line]


def test_by_default_progress_and_warnings(bench: Callable[..., list[str]], caplog: pytest.LogCaptureFixture) -> None:
    """What is logged is left to Python's own handler, or to the program's around it: here to pytest's."""
    lines = bench()
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]
    assert any("2 of 2" in line for line in lines)
    assert not any(line.startswith("deltaprune") for line in lines)


def test_quiet_is_errors_alone(bench: Callable[..., list[str]]) -> None:
    for word in ("--quiet", "-q"):
        assert bench(word) == ["deltaprune.kernels: said at 40"]


def test_verbose_names_the_steps(bench: Callable[..., list[str]], model: Path) -> None:
    lines = bench("-v")
    assert said(lines) == [logging.INFO, logging.WARNING, logging.ERROR]
    assert f"deltaprune.cli: loading {model}" in lines
    assert said(bench("-vv")) == said(bench("--verbose", "-v", "-v")) == [10, 20, 30, 40]


def test_the_logger_is_as_it_was(bench: Callable[..., list[str]]) -> None:
    root = logging.getLogger("deltaprune")
    before = root.level, list(root.handlers)
    bench("-v")
    bench("-q")
    assert (root.level, root.handlers) == before
