"""--plugin FILE.py: a user's own score, method and benchmark by name, and one sentence for a file that is broken."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaprune import UserError
from deltaprune.methods import parse
from deltaprune.methods import registry as methods
from deltaprune.plugins import load_plugin, plugins
from deltaprune.scores import registry as scores

pytestmark = pytest.mark.usefixtures("own_names")
EXAMPLES = Path(__file__).parents[2] / "examples"


def examples() -> list[tuple[str, str]]:
    """The commands that stand at the head of the examples."""
    heads = [(file.name, file.read_text().split('"""')[1]) for file in sorted(EXAMPLES.glob("new_*.py"))]
    return [(name, line) for name, head in heads for line in head.splitlines() if line.startswith("deltaprune ")]


@pytest.mark.parametrize(("name", "line"), examples(), ids=lambda value: value.partition(" ")[0])
def test_the_examples_are_plugins(
    name: str, line: str, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    ran = cli(*shlex.split(line)[1:])
    assert (ran.code, ran.err) == (0, "")
    assert f"examples/{name}" in line


def test_every_kind_has_an_example() -> None:
    assert {name for name, _ in examples()} == {"new_benchmark.py", "new_method.py", "new_score.py"}


@pytest.mark.parametrize("command", ["cost", "budget --macs 0.8"])
def test_a_command_that_runs_nothing_knows_it_too(command: str, cli: Callable[..., Any], model: Path) -> None:
    asked = ("--plugin", EXAMPLES / "new_score.py", "--model", model, "--method", "fastv:score=unusual", "--json")
    (row,) = cli(*command.split(), *asked).rows
    assert row["method"].startswith("fastv:")


def test_methods_lists_it(cli: Callable[..., Any]) -> None:
    document = cli("methods", "--plugin", EXAMPLES / "new_method.py", "--json").rows
    (entry,) = (entry for entry in document["methods"] if entry["name"] == "three_steps")
    assert (entry["fields"], entry["paper"]) == ({}, None)
    assert entry["about"].startswith("Half of the image after the early layer")


def test_a_file_is_run_once() -> None:
    assert load_plugin(EXAMPLES / "new_score.py") is load_plugin(str(EXAMPLES / "new_score.py"))
    assert load_plugin(EXAMPLES / "new_score.py") in plugins()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "There is no plugin 'mine.py': give a Python file that registers a score, method or benchmark."),
        ("import nowhere", "cannot be imported: line 1 (ModuleNotFoundError: No module named 'nowhere')."),
        ("x = 1\n1 / 0", "cannot be imported: line 2 (ZeroDivisionError: division by zero)."),
        ("def x(:", "cannot be imported: line 1 (SyntaxError: "),
        ("import sys\nsys.exit(3)", "cannot be imported: line 2 (SystemExit: 3)."),
        (
            "import deltaprune as dp\nfrom deltaprune.methods import registry\nregistry.register('dtp')(dp.FastV)",
            "The method 'dtp' is registered twice, as <class 'deltaprune.methods.dtp.DTP'> and",
        ),
        (
            "from deltaprune.scores import registry\nregistry.register('mine')(print)",
            "cannot be the score 'mine': register a subclass of Score).",
        ),
    ],
)
def test_a_broken_file_is_told(
    text: str | None, sentence: str, cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    ran = cli("cost", "--plugin", "mine.py")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert sentence in ran.err


def test_another_kind_of_file(cli: Callable[..., Any], scene: Path) -> None:
    assert "is not a Python file: its name has to end in .py." in cli("cost", "--plugin", scene).err


def test_what_cannot_be_made_by_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import dataclass

    from deltaprune import Delta, Method, Shape, Stage

    class Plain(Method):
        def steps(self, shape: Shape) -> tuple[Stage, ...]:
            return ()

    @dataclass(frozen=True)
    class Needs(Delta):
        power: float

    monkeypatch.setitem(methods._entries, "plain", Plain)
    monkeypatch.setitem(scores._entries, "needs", Needs)
    with pytest.raises(UserError, match="Plain is not a dataclass: write @dataclass"):
        parse("plain")
    with pytest.raises(UserError, match="The score 'needs' has fields without a default"):
        parse("dtp:score=needs")


@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_it_reaches_the_processes_of_ray(model: Path, tmp_path: Path) -> None:
    """They have not imported the file; a process of its own, so that it is not known by another name."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'deltaprune[ray]'")
    (tmp_path / "mine.py").write_text((EXAMPLES / "new_score.py").read_text())
    start = [sys.executable, "-c", "from deltaprune.cli import main; main()", "evaluate", "--model", str(model)]
    asked = ["--plugin", str(tmp_path / "mine.py"), "--method", "dtp:keep=0.25,score=unusual", "--limit", "6", "--json"]
    local, remote = (
        subprocess.run([*start, *asked, "--engine", engine], capture_output=True, text=True, cwd=tmp_path)
        for engine in ("local", "ray")
    )
    assert (local.returncode, remote.returncode) == (0, 0), remote.stderr
    (here,), (there,) = json.loads(local.stdout), json.loads(remote.stdout)
    assert {**here, "ms": 0} == {**there, "ms": 0}
