"""Fixtures for tests of commands: run one in this process, and a small picture."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from deltaprune.benchmarks.scenes import Scene
from deltaprune.cli import run


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def rows(self) -> Any:
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command in this process, without the lines of progress that a busy machine would bring out."""
    monkeypatch.setattr("deltaprune.cli._progress.LINE_EVERY", float("inf"))

    def call(*argv: object) -> Ran:
        code = run([str(word) for word in argv])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture file."""
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    Scene.from_seed(7).image.save(path)
    return path
