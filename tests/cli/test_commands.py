"""What each command prints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NUMBERS = Path(__file__).parents[2] / "numbers" / "bundled.json"
MACS = ["vision", "projector", "linear", "conv", "scan", "head", "total"]


def test_cost_rows_stand_in_the_order_asked_for(cli: Callable[..., Any]) -> None:
    methods = ["dtp:keep=0.25", "none", "dtp:keep=0.75"]
    argv = [word for method in methods for word in ("--method", method)]
    rows = cli("cost", "--model", "cobra", *argv, "--convention", "paper", "--text-tokens", 30, "--json").rows
    assert [row["method"] for row in rows] == methods
    assert {row["model"] for row in rows} == {"cobra"}
    assert {row["convention"] for row in rows} == {"paper"}
    assert {row["text_tokens"] for row in rows} == {30}
    assert all(list(row["macs"]) == MACS for row in rows)
    assert [row["kept"] for row in rows] == [[182, 0], None, [546, 0]]
    assert rows[0]["share"] < rows[2]["share"] < rows[1]["share"] == 1


@pytest.mark.parametrize("name", ["robomamba", "bundled"])
def test_cost_of_the_other_models(name: str, cli: Callable[..., Any]) -> None:
    rows = cli("cost", "--model", name, "--json").rows
    assert [(row["model"], row["method"]) for row in rows] == [(name, "none"), (name, "dtp:keep=0.5")]


def test_cost_of_a_folder_as_a_table(cli: Callable[..., Any], model: Path) -> None:
    ran = cli("cost", "--model", model, "--method", "none", "--method", "dtp")
    assert (ran.code, ran.err) == (0, "")
    assert all(word in ran.out for word in ("none", "dtp", "8, 0", "100.0%", *MACS))


def test_ask_in_json_prints_one_document(cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept.png"
    questions = ["How many red circles are there?", "What color is the star?"]
    ran = cli(
        *("ask", scene, *questions, "--model", model, "--method", "dtp:keep=0.25", "--overlay", out, "--json"),
        *("--max-new-tokens", 3),
    )
    assert ran.code == 0
    assert ran.err.startswith(f"wrote {out}: the patches kept for the first question by dtp:keep=0.25")
    rows = json.loads(ran.out)
    assert [(row["question"], row["method"]) for row in rows] == [
        (q, m) for q in questions for m in ("none", "dtp:keep=0.25")
    ]
    assert rows[1]["kept"] == [4, 0]
    assert {"question", "method", "answer", "kept", "macs_share", "ms"} <= rows[0].keys()
    assert rows[0]["ms"].keys() == {"vision", "prefill", "decode"}
    with Image.open(out) as drawn:
        assert drawn.width >= 480


def test_ask_as_a_table(cli: Callable[..., Any], model: Path, scene: Path) -> None:
    ran = cli("ask", scene, "Is [bold]this[/bold] a \x1b[31mstar?", "--model", model, "--max-new-tokens", 2)
    assert (ran.code, ran.err) == (0, "")
    assert "Is [bold]this[/bold] a \\x1b[31mstar?" in ran.out  # neither markup nor escapes are obeyed
    lines = [line.split() for line in ran.out.splitlines()]
    named = [line[0] for line in lines if line and line[0] in ("none", "dtp:keep=0.5")]
    assert list(dict.fromkeys(named)) == ["none", "dtp:keep=0.5"]  # a wide answer splits the table into two blocks


def test_evaluate_rows(cli: Callable[..., Any], model: Path) -> None:
    argv = ("evaluate", "--model", model, "--method", "dtp", "--method", "none", "--limit", 12, "--seed", 3)
    rows = cli(*argv, "--split", "val", "--batch-size", 5, "--json").rows
    assert [row["method"] for row in rows] == ["dtp", "none"]
    expected = "model benchmark method n seed mean by_skill floor floor_by_skill agreement macs_share"
    assert set(expected.split()) <= rows[0].keys()
    assert [(row["n"], row["seed"], row["benchmark"]) for row in rows] == [(12, 3, "scenes")] * 2
    assert rows[1]["agreement"] == 100
    table = cli(*argv)
    assert (table.code, table.err) == (0, "")
    assert all(word in table.out for word in ("unanswerable", "agreement", "(guessing)"))


def test_calibrate_writes_the_plan(cli: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    argv = ("calibrate", "--model", model, "--samples", 2, "--rule", "argmin")  # its layers are in order on any model
    found = cli(*argv, "--out", out, "--json").rows
    assert json.loads(out.read_text()) == found
    assert found["early"] < found["late"]
    assert found["source"]["samples"] == 2
    assert found["source"]["split"] == "val"
    table = cli(*argv)
    assert f"dtp:early={found['early']},late={found['late']}" in table.out


def test_the_bundled_model_answers(cli: Callable[..., Any], scene: Path) -> None:
    rows = cli("ask", scene, "What is written on the sign?", "--json").rows
    assert [row["method"] for row in rows] == ["none", "dtp:keep=0.5", "freeze"]
    assert all(row["answer"] for row in rows)
    assert rows[1]["macs_share"] < rows[0]["macs_share"] == 1
    assert rows[2]["macs_share"] < 0.6


def test_the_bundled_model_is_evaluated(cli: Callable[..., Any]) -> None:
    """Within 3 points of what was published, on the first 240 of the same questions, and each skill within 10."""
    published = next(row for row in json.loads(NUMBERS.read_text())["rows"] if row["method"] == "none")
    (row,) = cli("evaluate", "--method", "none", "--limit", 240, "--json").rows
    assert (row["benchmark"], row["seed"]) == (published["benchmark"], published["seed"])
    assert row["mean"] == pytest.approx(published["mean"], abs=3)
    assert row["by_skill"] == pytest.approx(published["by_skill"], abs=10)
