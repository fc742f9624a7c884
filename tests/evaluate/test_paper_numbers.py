"""The paper's numbers: drops as it prints them, misprints where they are noted, and found by what a method does."""

import pytest

from deltaprune.benchmarks.textvqa import TextVQA
from deltaprune.evaluate.paper import HARNESS, NOTES, PAPER, paper_number, printed
from deltaprune.methods import parse

DROPS = {  # printed in brackets, Table 1 and the poster
    "fastv:keep=0.7": {"gqa": -0.2, "vqav2": -0.4, "textvqa": -1.3, "pope": -0.7, "vsr": -0.4, "vizwiz": 0.1},
    "vtw:after=45": {"gqa": -0.2, "vqav2": -0.1, "textvqa": 0.0, "pope": -0.1, "vsr": 0.1, "vizwiz": -0.2},
    "dart:keep=0.66": {"gqa": -0.3, "vqav2": -0.7, "textvqa": -1.2, "pope": -1.0, "vsr": -0.2, "vizwiz": 0.0},
    "dtp:keep=0.9": {"gqa": -0.3, "vqav2": -0.1, "textvqa": -0.3, "pope": -0.1, "vsr": 0.5, "vizwiz": 0.0},
    "fastv:keep=0.5": {"gqa": -0.6, "vqav2": -1.0, "textvqa": -3.2, "pope": -1.0, "vsr": -1.1, "vizwiz": 0.4},
    "vtw:after=32": {"gqa": -15.2, "vqav2": -23.7, "textvqa": -15.6, "pope": -14.3, "vsr": -0.5, "vizwiz": -1.2},
    "dart:keep=0.44": {"gqa": -1.1, "vqav2": -1.7, "textvqa": -3.1, "pope": -2.1, "vsr": -0.7, "vizwiz": -0.2},
    "dtp:keep=0.5": {"gqa": -0.9, "vqav2": -0.7, "textvqa": -2.1, "pope": -1.1, "vsr": -0.5, "vizwiz": -0.1},
}
DROPS_2 = {  # Table 2
    "fastv:keep=0.7": {"okvqa": -0.3, "gqa": -0.3, "vqav2": -0.5, "pope": 0.1, "vsr": -1.2},
    "vtw:after=45": {"okvqa": -0.4, "gqa": -0.5, "vqav2": -0.2, "pope": 0.1, "vsr": -0.9},
    "dtp:keep=0.9": {"okvqa": -0.6, "gqa": -0.3, "vqav2": -0.2, "pope": 0.0, "vsr": -1.0},
    "fastv:keep=0.5": {"okvqa": -1.0, "gqa": -1.3, "vqav2": -1.5, "pope": -1.0, "vsr": -2.1},
    "vtw:after=32": {"okvqa": -24.4, "gqa": -11.7, "vqav2": -19.7, "pope": -3.1, "vsr": -9.0},
    "dtp:keep=0.5": {"okvqa": -0.6, "gqa": -1.5, "vqav2": -1.3, "pope": -0.8, "vsr": -1.4},
}


@pytest.mark.parametrize(
    ("model", "method", "drops"),
    [("cobra", *pair) for pair in DROPS.items()] + [("robomamba", *pair) for pair in DROPS_2.items()],
)
def test_the_printed_drops_come_out(model: str, method: str, drops: dict[str, float]) -> None:
    found = {}
    for benchmark in drops:
        pruned, whole = (paper_number(model, each, benchmark, "cobra") for each in (method, "none"))
        assert pruned is not None
        assert whole is not None
        found[benchmark] = round(pruned - whole, 1)
    assert found == drops


def test_an_average_is_the_mean_of_its_row_or_noted_as_a_misprint() -> None:
    averaged = [row for row in PAPER if row.average is not None]
    assert len(averaged) == 16
    wrong = [row for row in averaged if abs(row.mean - row.average) > 0.0501]
    assert [(row.model, row.method) for row in wrong] == [
        ("robomamba", method) for method in ("none", "fastv:keep=0.7", "vtw:after=45", "dtp:keep=0.9")
    ]
    assert all(row.note == f"Misprinted average: the mean of the row is {row.mean:.1f}." for row in wrong)
    assert not any("Misprint" in row.note for row in averaged if row not in wrong)


def test_tables_agree_where_they_print_the_same_setting() -> None:
    seen: dict[tuple[str, str, str], float] = {}
    for row in PAPER:
        for benchmark, score in row.scores.items():
            assert seen.setdefault((row.model, row.method, benchmark), score) == score
    assert {row.table for row in printed("cobra", "dtp:keep=0.5")} == {"1", "3", "4", "5"}


@pytest.mark.parametrize(
    ("method", "benchmark", "score"),
    [
        ("dtp:keep=0.5", "textvqa", 56.1),
        ("dtp", "textvqa", 56.1),
        ("dtp:keep=0.5,early=15,late=45", "textvqa", 56.1),
        (repr(parse("dtp:keep=0.5")), "textvqa", 56.1),
        ("vtw", "pope", 88.3),
        ("random:keep=0.5", "textvqa", 53.7),
        ("dtp:keep=0.5,score=output", "textvqa", 48.0),
        ("dtp:keep=0.5,score=readout", "vizwiz", 49.6),
        ("dtp:keep=0.5,candidates=all", "gqa", 7.01),
        ("dtp:keep=0.5,late=none", "gqa", 61.5),
        (" none ", "gqa", 62.3),
        ("NoPruning()", "gqa", 62.3),
        ("dtp:keep=0.5,early=14", "textvqa", None),
        ("dtp:keep=0.51", "textvqa", None),
        ("fastv:keep=0.5,score=hidden_attention", "textvqa", None),
        ("dtp:keep=0.5,score=output", "pope", None),  # Table 3 has no POPE of Cobra
        ("Mine(keep=0.5)", "textvqa", None),
        ("dtp:keep=0.5", "okvqa", None),
    ],
)
def test_a_setting_is_what_a_method_does(method: str, benchmark: str, score: float | None) -> None:
    assert paper_number("cobra", method, benchmark, "cobra") == score


def test_only_a_harness_that_may_have_made_the_number() -> None:
    assert paper_number("cobra", "none", "gqa", "official") is None
    assert paper_number("cobra", "none", "gqa", "robomamba") is None
    assert paper_number("robomamba", "none", "gqa", "robomamba") == 56.4
    assert paper_number("bundled", "none", "scenes", "official") is None


def test_textvqa_without_ocr_tokens_has_no_number() -> None:
    without = TextVQA(ocr=False, data=".", protocol="cobra").note("val")
    assert without == "without OCR tokens"
    assert paper_number("cobra", "none", "textvqa", "cobra", without) is None
    assert paper_number("cobra", "none", "textvqa", "cobra", TextVQA(data=".").note("val")) == 58.2
    assert HARNESS.keys() == NOTES.keys() == {row.model for row in PAPER}
