"""`deltaprune serve` in a process of its own: it says where it is, and stops when it has answered."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import httpx
import openai
import pytest

from deltaprune.checkpoints.folder import save_folder
from deltaprune.cli import run
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

COMMAND = [sys.executable, "-c", "from deltaprune.cli import main; main()", "serve", "--port", "0"]


@pytest.fixture(scope="module")
def folder(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(made, tiny[0].model, tiny[1].tokenizer)
    return made


def address(stderr: IO[str]) -> str:
    """Where the server says it is, once it is there."""
    for line in stderr:
        found = re.search(r"at (http://\S+)/v1", line)
        if found:
            return found[1]
    raise AssertionError("it ended before it was ready")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_lets_what_runs_finish(folder: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "--model", str(folder), "--method", "dtp:keep=0.5"], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            url = address(server.stderr)
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
                chat = [{"role": "user", "content": "Go on."}]
                stream = client.chat.completions.create(
                    model="tiny", messages=chat, max_tokens=300, temperature=2, seed=1, stream=True
                )
                chunks = [next(iter(stream))]
                server.send_signal(number)
                chunks += list(stream)
                assert chunks[-1].choices[0].finish_reason in ("stop", "length")
            assert server.wait(60) == 0
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/health")
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--method", "dpt"], ["'dpt'", "'dtp'"]),
        (["--port", "70000"], ["--port", "65535"]),
        (["--queue", "0"], ["--queue"]),
        (["--host", "203.0.113.1"], ["203.0.113.1", "--port"]),
        (["--method", "vtw:after=99", "--port", "0"], ["99"]),
        (["--engine", "ray", "--method", "vtw:after=99", "--port", "0"], ["99"]),
        (["--engine", "rai", "--port", "0"], ["'rai'", "'ray'"]),
    ],
)
def test_a_mistake_ends_in_a_sentence(
    folder: Path, argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--model", str(folder), *argv]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    for word in words:
        assert word in line
    assert line.endswith(".")


def test_the_studio_beside_it(folder: Path) -> None:
    with subprocess.Popen([*COMMAND, "--model", str(folder), "--studio"], stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = address(server.stderr)
            page = httpx.get(f"{url}/studio/", follow_redirects=True, timeout=60)
            assert page.status_code == 200
            assert "deltaprune studio" in page.text
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
                said = client.chat.completions.create(
                    model="tiny", messages=[{"role": "user", "content": "Go on."}], max_tokens=2
                )
            assert said.choices[0].finish_reason in ("stop", "length")
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()


def test_the_studio_needs_the_model_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--studio", "--engine", "ray"]) == 2
    assert "--studio needs the model in this process" in capsys.readouterr().err
