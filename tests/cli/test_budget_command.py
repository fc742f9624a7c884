"""`deltaprune budget`, and what `cost` tells of FLOPs and decoding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ARGV = ("budget", "--model", "cobra", "--macs", 0.48, "--text-tokens", 22, "--convention", "paper")
METHODS = ("--method", "dtp", "--method", "vtw", "--method", "fastv:after=3", "--method", "dtp:late=none")


def test_rows(cli: Callable[..., Any]) -> None:
    rows = cli(*ARGV, *METHODS, "--json").rows
    assert [row["method"] for row in rows] == [
        *("dtp:keep=0.49", "vtw:after=30", "fastv:after=3,keep=0.438", "dtp:late=none,keep=0.3")
    ]
    assert [row.get("keep") for row in rows] == [0.49, None, 0.438, 0.3]
    assert [row.get("after") for row in rows] == [None, 30, None, None]
    assert [row["kept"] for row in rows] == [[357, 0], [0], [319], [218]]
    assert {(row["model"], row["convention"], row["text_tokens"], row["budget"]) for row in rows} == {
        ("cobra", "paper", 22, 0.48)
    }
    within = [row["share"] <= 0.48 for row in rows]
    assert within == [True, False, True, True]  # VTW can only choose a layer


def test_each_row_costs_what_it_says(cli: Callable[..., Any]) -> None:
    rows = cli(*ARGV, *METHODS, "--json").rows
    asked = [word for row in rows for word in ("--method", row["method"])]
    counted = cli("cost", "--convention", "paper", *asked, "--json").rows
    for field in ("method", "share", "kept", "macs"):
        assert [row[field] for row in counted] == [row[field] for row in rows]


def test_as_a_table(cli: Callable[..., Any]) -> None:
    ran = cli(*ARGV, *METHODS)
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["vtw:after=30", "0", "48.43%", "975.158"] in lines
    assert ["dtp:keep=0.49", "357,", "0", "47.96%", "965.733"] in lines


def test_of_a_folder(cli: Callable[..., Any], model: Path) -> None:
    (row,) = cli("budget", "--model", model, "--macs", 0.7, "--json").rows
    assert row["model"] == "tiny"
    assert row["method"].startswith("dtp:keep=")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("", "Give one of --macs SHARE and --budget VALUE, such as --macs 0.48 or --budget 5 --in ms."),
        ("--macs 0.5 --budget 0.5", "Give one of --macs SHARE and --budget VALUE"),
        ("--budget 48", "--budget 48 is no share of the MACs: it lies above 0 and not above 1 (try 0.48)."),
        ("--macs many", "--macs takes a number, such as 0.5: 'many' is not one."),
        ("--macs 0", "--macs 0 is no share of the MACs: it lies above 0 and not above 1 (try 0.5)."),
        ("--macs 48", "(try 0.48)."),
        ("--macs 0.2", "dtp cannot meet a MACs share of 0.2 on cobra: the nearest it reaches is 0.2569, at keep=0;"),
        ("--macs 0.9 --method fastv --method dtp", "the nearest it reaches is 0.7118, at keep=1; ask for that"),
        ("--macs 0.5 --method none", "none has neither keep nor after"),
        ("--macs 0.5 --method dtp:keep=0.5", "Method 'dtp:keep=0.5' already gives keep"),
        ("--macs 0.5 --method dpt", "did you mean 'dtp'?"),
        ("--macs 0.5 --model cobar", "did you mean 'cobra'?"),
        ("--macs 0.5 --text-tokens 0", "--text-tokens 0 is out of range"),
        ("--macs 0.5 --convention papr", "did you mean 'paper'?"),
        ("--macs 0.5 --plan nowhere.json", "The plan 'nowhere.json' cannot be read"),
    ],
)
def test_a_mistake_ends_in_one_sentence(argv: str, sentence: str, cli: Callable[..., Any]) -> None:
    ran = cli("budget", *argv.split())
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_cost_tells_flops_and_decoding(cli: Callable[..., Any]) -> None:
    none, dtp = cli("cost", "--model", "cobra", "--json").rows
    for row in (none, dtp):
        for kind in ("", "decode_"):
            assert row[f"{kind}flops"] == {name: 2 * value for name, value in row[f"{kind}macs"].items()}
    assert none["decode_macs"] == dtp["decode_macs"]
    assert none["decode_macs"]["vision"] == 0 < none["decode_macs"]["head"]
    assert none["decode_macs"]["linear"] == 64 * 41_123_840  # facts: per token and layer


def test_cost_tables_in_macs_and_flops(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # wide enough for one block
    in_macs, in_flops = cli("cost", "--method", "none"), cli("cost", "--method", "none", "--flops")
    assert "GMACs (10^9" in in_macs.out
    assert "GFLOPs (10^9" in in_flops.out

    def numbers(out: str, first: str) -> list[float]:
        words = next(line.split() for line in out.splitlines() if line.split()[:1] == [first])
        return [float(word.replace(",", "")) for word in words[-7:]]

    for first in ("none", "(decode)"):
        twice = [2 * value for value in numbers(in_macs.out, first)]
        assert numbers(in_flops.out, first) == pytest.approx(twice, abs=2e-3)
