"""`--quantize` on the commands that load a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Published, cut_off, write_cobra

from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

COMMANDS = {
    "ask": "ask SCENE What? --model MODEL --method none --json",
    "evaluate": "evaluate --model MODEL --method none --limit 2 --json",
    "sweep": "sweep --model MODEL --method dtp --keep 0.5 --limit 2 --json",
    "bench": "bench --model MODEL --method none --rounds 1 --json",
    "random": "bench --model MODEL --method none --rounds 1 --random-weights --dtype bfloat16 --json",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)


@pytest.fixture
def words(model: Path, scene: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    texts = {"MODEL": str(model), "SCENE": str(scene), "NEW": str(tmp_path / "new")}
    return lambda line: [texts.get(word, word) for word in line.split()]


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_it_runs(line: str, cli: Callable[..., Any], words: Callable[[str], list[str]]) -> None:
    assert cli(*words(line), "--quantize", "int4").rows


def test_bench_knows_how_many_bytes_a_token_reads(cli: Callable[..., Any], words: Callable[[str], list[str]]) -> None:
    line = COMMANDS["bench"]
    plain, quantized = cli(*words(line)).rows[0], cli(*words(line), "--quantize", "int4").rows[0]
    assert quantized["weights_ms"] < plain["weights_ms"]


def test_convert_then_ask(
    cli: Callable[..., Any], words: Callable[[str], list[str]], tiny: tuple[VLM, Processor], scene: Path, tmp_path: Path
) -> None:
    cobra: Published = write_cobra(tmp_path / "published", tiny[1].tokenizer)
    out = tmp_path / "out"
    parts = "--towers", cobra.towers, "--tokenizer", cobra.tokenizer
    ran = cli("convert", cobra.source, out, *parts, "--quantize", "int4", "--dtype", "bfloat16")
    assert (ran.code, ran.err) == (0, "")
    assert f"{out}: cobra, int4 in bfloat16, 0.00 GB" in ran.out
    assert cli("ask", scene, "How many?", "--model", out, "--method", "none", "--json").rows


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("ask SCENE What? --model MODEL --quantize int5", "--quantize 'int5' is unknown: did you mean 'int"),
        ("serve --model MODEL --quantize int5 --port 0", "--quantize 'int5' is unknown"),
        ("bench --model MODEL --quantize int8 --peers", "--peers run on the model's own weights"),
        ("ask SCENE What? --model MODEL --quantize int8 --dtype float16", "int8 weights go with dtype='bfloat16'"),
        ("convert MODEL NEW --quantize int9", "quantize='int9' is unknown: did you mean 'int"),
        ("evaluate --model MODEL --quantize int8 --device cuda --engine ray", "--quantize int8 runs on the CPU"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    line: str, sentence: str, cli: Callable[..., Any], words: Callable[[str], list[str]]
) -> None:
    ran = cli(*words(line))
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
