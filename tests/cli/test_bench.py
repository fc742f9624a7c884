"""`deltaprune bench`: rows as promised, ratios in a last object, mistakes in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

KEYS = {"name", "method", "tokens", "batch", "dtype", "device", "kernel", "prefill_ms", "decode_ms", "peak_bytes"}


def test_json_rows_and_ratios(cli: Callable, model: Path) -> None:
    *rows, last = cli("bench", "--model", model, "--rounds", 1, "--text-tokens", 9, "--json").rows
    assert [row["method"] for row in rows] == ["none", "dtp:keep=0.5"]
    assert all(row.keys() >= KEYS | {"spread"} and row["tokens"] == 25 for row in rows)
    assert list(last) == ["ratios"]
    assert list(last["ratios"]) == ["dtp:keep=0.5/none"]


def test_random_weights_in_bfloat16(cli: Callable, model: Path) -> None:
    argv = ("bench", "--model", model, "--random-weights", "--dtype", "bfloat16", "--rounds", 1, "--json")
    *rows, _ = cli(*argv).rows
    assert {row["dtype"] for row in rows} == {"bfloat16"}


def test_the_table_names_what_was_measured(cli: Callable, model: Path) -> None:
    ran = cli("bench", "--model", model, "--rounds", 1)
    assert ran.code == 0
    for word in ("prefill", "decode", "choose", "ratio", "peak", "tiny, float32 on cpu"):
        assert word in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--dtype", "float3"], "There is no dtype 'float3': did you mean 'float32'?"),
        (["--rounds", 0], "--rounds 0 is out of range"),
        (["--batch", 0], "--batch 0 is out of range"),
        (["--model", "cobr", "--random-weights"], "There is no model 'cobr'"),
        (["--method", "dtpp"], "There is no method 'dtpp'"),
    ],
)
def test_mistakes(cli: Callable, argv: list, sentence: str) -> None:
    ran = cli("bench", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
