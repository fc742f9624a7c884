"""How fast it helps, and how it behaves in terminals, pipes and interruptions."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaprune import __version__
from deltaprune.cli import COMMANDS


def shell(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", "from deltaprune.cli import main; main()", *argv]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **env})


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert shell("--help").stdout.startswith("Usage: deltaprune")
        times.append(time.perf_counter() - start)
    assert min(times) < 1
    code = (
        "import sys; from deltaprune.cli import run; run(['--help']); run(['ask', '--help']);"
        "print(sorted({'torch', 'transformers', 'numba', 'numpy', 'PIL'} & sys.modules.keys()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize("argv", [["--help"], [], *([name, "--help"] for name in COMMANDS)])
def test_help_goes_to_stdout(argv: list[str], cli: Callable[..., Any]) -> None:
    ran = cli(*argv)
    assert ran.code == 0
    assert ran.out.startswith("Usage: deltaprune")
    assert ran.err == ""


def test_version(cli: Callable[..., Any]) -> None:
    assert cli("--version") == (0, f"deltaprune {__version__}\n", "")


def test_a_table_in_a_pipe_is_plain_and_complete() -> None:
    long = "dtp:keep=0.5,early=15,late=45,candidates=visual,score=delta"
    ran = shell("cost", "--method", long, COLUMNS="40", TERM="xterm-256color")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert long in ran.stdout
    assert "…" not in ran.stdout
    assert "\x1b" not in ran.stdout


def test_a_narrow_terminal_cuts_no_number(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    wide = cli("cost", "--method", "none").out
    numbers = next(line for line in wide.splitlines() if line.lstrip().startswith("none")).split()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take the stream for a terminal
    monkeypatch.setenv("TERM", "dumb")
    narrow = cli("cost", "--method", "none").out
    assert next(line for line in narrow.splitlines() if line.lstrip().startswith("none")).split() == numbers


def test_no_color(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert not any(f"\x1b[{code}m" in cli("cost").out for code in range(30, 50))


def test_a_closed_pipe_is_no_traceback() -> None:
    for argv in (["cost", "--json"], ["--help"]):
        words = [sys.executable, "-c", "from deltaprune.cli import main; main()", *argv]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""


def test_an_interruption_is_no_traceback(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deltaprune.methods.parse", interrupt)
    ran = cli("cost")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_progress_is_told_in_lines_where_stderr_is_a_file(
    cli: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltaprune.cli._progress.LINE_EVERY", 0)
    ran = cli("bench", "--model", model, "--rounds", 1, "--json")
    assert ran.code == 0
    assert re.search(r": 2 of 2, [\d.]+ a second, 0:00:00 left$", ran.err.splitlines()[-1])
