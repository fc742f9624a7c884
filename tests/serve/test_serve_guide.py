"""The guide's Python runs against its server, and its commands have the options that they show."""

import re
import shlex
from pathlib import Path

import pytest
from fastapi import FastAPI
from serving import running

import deltaprune as dp
from deltaprune.cli import run
from deltaprune.serve.app import create_app
from deltaprune.serve.settings import Settings

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "serve.md").read_text()


def test_its_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    client, app = re.findall(r"```py\n(.*?)```", GUIDE, re.DOTALL)
    with running(create_app(*dp.load("bundled"), Settings())) as url:
        names: dict[str, object] = {}
        exec(client.replace("http://127.0.0.1:8000", url), names)
        names["client"].close()  # pyright: ignore[reportAttributeAccessIssue]
    assert re.search(r"^\d+ \{'method': 'freeze:budget=0.6', .*'macs_share': 0\.\d+", capsys.readouterr().out)
    exec(app, names)
    assert isinstance(names["app"], FastAPI)


def test_its_commands_have_the_options_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    known = capsys.readouterr().out
    shown = set(re.findall(r"(?<![-\w])--[a-z][a-z-]+", GUIDE))
    commands = [line for line in GUIDE.splitlines() if line.startswith("deltaprune serve")]
    assert len(commands) == 3
    assert shown > {word for line in commands for word in shlex.split(line) if word.startswith("--")} - {"--method"}
    assert not {option for option in shown if option not in known}


def test_its_limits_are_those_of_the_settings() -> None:
    settings = Settings()
    for option, value in (
        ("max-body", settings.max_body // 2**20),
        ("max-megapixels", settings.max_pixels // 10**6),
        ("max-prompt-tokens", settings.max_prompt_tokens),
        ("max-tokens", settings.max_tokens),
        ("queue", settings.queue),
    ):
        assert f"`--{option}` {value}" in GUIDE
    assert f"| {settings.default_tokens} unless given" in GUIDE
