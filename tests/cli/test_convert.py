"""`deltaprune convert`, and asking what it made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Published, cut_off, write_cobra

from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


@pytest.fixture(scope="module")
def cobra(tiny: tuple[VLM, Processor], tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_cobra(tmp_path_factory.mktemp("cobra"), tiny[1].tokenizer)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)


def test_convert_then_ask(cli: Callable[..., Any], cobra: Published, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "cobra"
    ran = cli("convert", cobra.source, out, "--towers", cobra.towers, "--tokenizer", cobra.tokenizer)
    assert (ran.code, ran.err) == (0, "")
    assert f"{out}: cobra, float32, 0.00 GB in 1 weight files; use it with --model {out}" in ran.out
    rows = cli("ask", scene, "How many?", "--model", out, "--method", "dtp:keep=0.5,early=1,late=3", "--json").rows
    assert [row["method"] for row in rows] == ["none", "dtp:keep=0.5,early=1,late=3"]
    assert rows[1]["kept"] == [8, 0]


def test_towers_one_by_one_and_json(cli: Callable[..., Any], cobra: Published, tmp_path: Path) -> None:
    out = tmp_path / "cobra"
    towers = [word for name in ("dino", "siglip") for word in ("--towers", f"{name}={cobra.towers / name}.safetensors")]
    record = cli("convert", cobra.source, out, *towers, "--tokenizer", cobra.tokenizer, "--dtype", "bfloat16", "--json")
    assert record.rows == json.loads((out / "conversion.json").read_text())
    assert record.rows["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("convert", "Missing argument 'SRC': the form is deltaprune convert SRC DEST [OPTIONS]"),
        ("convert SOURCE", "Missing argument 'DEST'"),
        ("convert SOURCE NEW", "leaves out tokenizer, dino and siglip, and the Hub did not give them"),
        ("convert SOURCE SOURCE", "exists: a conversion makes a new folder"),
        ("convert cobra NEW", "Cobra could not be downloaded (han1997/cobra: no network)"),
        ("convert cobar NEW", "did you mean 'cobra'?"),
        ("convert SOURCE NEW --towers a --towers b", "--towers 'a b': give one folder, or NAME=FILE for each tower."),
        ("convert SOURCE NEW --towers a", "towers='a' lacks dino.safetensors and siglip.safetensors"),
        ("convert SOURCE NEW --towers TOWERS --tokenizer WORDS --dtype half", "no dtype 'half'"),
        ("ask SCENE What? --model cobra", "Cobra could not be downloaded"),
        ("ask SCENE What? --model robomamba", "RoboMamba's weights are on no Hub"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    argv: str, sentence: str, cli: Callable[..., Any], cobra: Published, scene: Path, tmp_path: Path
) -> None:
    texts = {
        "SOURCE": cobra.source,
        "NEW": tmp_path / "new",
        "TOWERS": cobra.towers,
        "WORDS": cobra.tokenizer,
        "SCENE": scene,
    }
    ran = cli(*(texts.get(word, word) for word in argv.split()))
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
