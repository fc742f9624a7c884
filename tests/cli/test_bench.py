"""`deltaprune bench`: rows as promised, ratios in a last object, mistakes in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deltaprune.models import registry

KEYS = {"name", "method", "tokens", "batch", "dtype", "device", "kernel", "prefill_ms", "decode_ms", "peak_bytes"}
METHODS = ("none", "dtp:keep=0.5")
LAYERS = registry["bundled"].config().lm.n_layers


def test_json_rows_and_ratios(cli: Callable, model: Path) -> None:
    *rows, last = cli("bench", "--model", model, "--rounds", 1, "--text-tokens", 9, "--json").rows
    assert [row["method"] for row in rows] == ["none", "dtp:keep=0.5"]
    assert all(row.keys() >= KEYS | {"spread"} and row["tokens"] == 25 for row in rows)
    assert list(last) == ["ratios", "verified", "torch", "threads"]
    assert list(last["ratios"]) == ["dtp:keep=0.5/none", "none/products", "dtp:keep=0.5/products"]


def test_several_batches_in_one_document(cli: Callable, model: Path) -> None:
    *rows, last = cli("bench", "--model", model, "--rounds", 1, "--batch", 1, "--batch", 3, "--json").rows
    assert [row["batch"] for row in rows] == [1, 1, 3, 3]
    assert set(last["ratios"]) == {
        f"batch {n}: {name}" for n in (1, 3) for name in ("dtp:keep=0.5/none", "none/products", "dtp:keep=0.5/products")
    }


def test_peers_and_components(cli: Callable, model: Path) -> None:
    *rows, last = cli("bench", "--model", model, "--rounds", 1, "--peers", "--components", "--json").rows
    assert [row["kernel"] for row in rows][:3] == ["numba", "numba", "transformers"]
    assert "transformers/none" in last["ratios"]
    assert rows[0]["components"].keys() == {"vision", "projector", "linear", "conv", "scan", "other"}


def test_growth(cli: Callable, model: Path) -> None:
    argv = ("bench", "--model", model, "--growth", "--most-tokens", 64, "--rounds", 1)
    *rows, last = cli(*argv, "--json").rows
    assert [row["tokens"] for row in rows] == [4, 8, 16, 32, 64]
    assert all(row.keys() >= KEYS for row in rows)
    assert list(last["ratios"]) == ["8/4", "16/8", "32/16", "64/32"]
    assert "growth" in cli(*argv).out


def test_questions(cli: Callable, model: Path) -> None:
    argv = ("bench", "--model", model, "--questions", 2, "--questions", 4, "--rounds", 1)
    *rows, last = cli(*argv, "--json").rows
    assert [(row["method"], row["questions"]) for row in rows] == [(m, n) for m in METHODS for n in (2, 4)]
    assert list(last["ratios"]) == [f"{m} {n}" for m in METHODS for n in (2, 4)]
    assert "packed" in cli(*argv).out


def test_fewer_layers_are_in_the_name(cli: Callable, model: Path) -> None:
    argv = ("bench", "--model", model, "--random-weights", "--layers", 3, "--method", "none", "--rounds", 1, "--json")
    (row, _) = cli(*argv).rows
    assert row["name"] == "tiny, 3 of 4 layers"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_random_weights_in_half_precision(cli: Callable, model: Path, dtype: str) -> None:
    argv = ("bench", "--model", model, "--random-weights", "--dtype", dtype, "--rounds", 1, "--peers", "--json")
    *rows, _ = cli(*argv).rows
    assert {row["dtype"] for row in rows} == {dtype}


def test_the_table_names_what_was_measured(cli: Callable, model: Path) -> None:
    ran = cli("bench", "--model", model, "--rounds", 1)
    assert ran.code == 0
    for word in ("prefill", "decode", "total", "choose", "ratio", "floor", "peak", "tiny, float32 on cpu"):
        assert word in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--dtype", "float3"], "There is no dtype 'float3': did you mean 'float32'?"),
        (["--rounds", 0], "--rounds 0 is out of range"),
        (["--batch", 0], "--batch 0 is out of range"),
        (["--questions", 0], "--questions 0 is out of range"),
        (["--growth", "--most-tokens", 0], "--most-tokens 0 is out of range"),
        (["--growth", "--questions", 2], "--growth and --questions are two measurements: ask for one of them."),
        (["--layers", 2], "--layers cuts a model of random weights: add --random-weights."),
        (["--random-weights", "--layers", 99], f"layers=99 is not possible for bundled: give 1 to {LAYERS}."),
        (["--model", "cobr", "--random-weights"], "There is no model 'cobr'"),
        (["--method", "dtpp"], "There is no method 'dtpp'"),
    ],
)
def test_mistakes(cli: Callable, argv: list, sentence: str) -> None:
    ran = cli("bench", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
