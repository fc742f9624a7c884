"""`deltaprune analyse`: a table, rows and a figure of each subject, and mistakes."""

import pytest
from elsewhere import register

from deltaprune.cli.analyse import MEASURE, TAKES


def test_the_map(cli, model, tmp_path) -> None:
    argv = ("analyse", "map", "--model", model, "--samples", 3, "--keep", 0.25, "--plot", tmp_path / "map.svg")
    rows = cli(*argv, "--json").rows
    assert [(row["early"], row["late"]) for row in rows] == [(1, 2), (1, 3), (1, None), (2, 3), (2, None), (3, None)]
    assert {(row["model"], row["samples"], row["keep"]) for row in rows} == {("tiny", 3, 0.25)}
    assert all(0 <= row["js"] < 0.7 for row in rows)
    assert all(0 <= row["same"] <= 100 for row in rows)
    assert rows[0]["macs_share"] < rows[1]["macs_share"] < rows[2]["macs_share"] < 1
    assert (tmp_path / "map.svg").stat().st_size > 1000
    some = cli(
        "analyse", "map", "--model", model, "--samples", 3, "--keep", 0.25, "--early", 2, "--late", "3,4", "--json"
    )
    assert some.rows == rows[3:5]
    table = cli("analyse", "map", "--model", model, "--samples", 3, "--keep", 0.25).out
    assert f"{1000 * rows[0]['js']:.3g}" in table
    assert "none" in table


def test_every_subject_runs_on_an_engine(cli, model, monkeypatch) -> None:
    """And says there what it says here."""
    sent = register(monkeypatch)
    for subject in TAKES:
        argv = ("analyse", subject, "--model", model, "--samples", 9, "--json")  # two batches
        more = ("--sets", 2) if subject == "sets" else ("--keep", 0.5)
        assert cli(*argv, *more, "--engine", "elsewhere").rows == cli(*argv, *more).rows
    assert len(sent) >= len(TAKES)


def test_the_curve_over_keep(cli, model, tmp_path) -> None:
    argv = ("analyse", "keep", "--model", model, "--samples", 3, "--keep", "0.25,0.5,1", "--plot", tmp_path / "k.png")
    rows = cli(*argv, "--json").rows
    assert [row["keep"] for row in rows] == [0.25, 0.5, 1.0]
    assert {(row["early"], row["late"]) for row in rows} == {(1, 3)}  # the plan's
    assert rows[2]["js"] < rows[1]["js"]
    assert all(row["std_by_layer"][3] is None for row in rows)
    assert rows[2]["std"] == pytest.approx(rows[2]["std_unpruned"], rel=1e-4)
    pair = cli("analyse", "map", "--model", model, "--samples", 3, "--early", 1, "--late", 3, "--json").rows[0]
    assert rows[1]["js"] == pytest.approx(pair["js"], rel=1e-3)
    assert (tmp_path / "k.png").stat().st_size > 1000
    alone = cli("analyse", "keep", "--model", model, "--samples", 2, "--late", 4, "--keep", 0.5, "--json").rows
    assert (alone[0]["late"], alone[0]["std_by_layer"][3] is None) == (None, False)


def test_a_share_that_keeps_no_token_has_no_spread(cli, model) -> None:
    argv = ("analyse", "keep", "--model", model, "--samples", 2, "--keep", "0.05,1")
    none, every = cli(*argv, "--json").rows
    assert none["std"] is None
    assert none["std_by_layer"][0] == every["std_by_layer"][0]
    assert cli(*argv).code == 0


def test_plans_of_disjoint_sets(cli, model) -> None:
    ran = cli("analyse", "sets", "--model", model, "--samples", 4, "--sets", 2, "--json").rows
    assert [(row["set"], row["samples"]) for row in ran] == [(1, 4), (2, 4)]
    first = cli("calibrate", "--model", model, "--samples", 4, "--rule", "argmin", "--json").rows
    assert (ran[0]["argmin"], ran[0]["late"]) == (first["early"], first["late"])
    assert ran[0]["withdrawal"] == first["withdrawal"]
    table = cli("analyse", "sets", "--model", model, "--samples", 4, "--sets", 2).out
    assert "span" in table


def test_recipes_for_the_depth(cli, model) -> None:
    rows = cli("analyse", "depth", "--model", model, "--samples", 3, "--json").rows
    assert [(row["recipe"], row["early"], row["late"]) for row in rows] == [
        ("plan", 1, 3),
        ("25 % and 70 %", 1, 3),
        ("15 and 45 of 64", 1, 3),
    ]
    assert len({row["js"] for row in rows}) == 1
    assert "25 % and 70 %" in cli("analyse", "depth", "--model", model, "--samples", 2).out


def test_attention_and_a_score(cli, model, tmp_path) -> None:
    argv = ("analyse", "attention", "--model", model, "--samples", 3, "--plot", tmp_path / "a.svg")
    rows = cli(*argv, "--json").rows
    assert [row["after"] for row in rows] == [1, 2, 3, 4]
    assert {row["score"] for row in rows} == {"Delta()"}
    itself = cli(*argv, "--score", "hidden_attention", "--json").rows
    assert all(row["spearman"] == pytest.approx(1) for row in itself)
    assert all(row["mass"] > other["mass"] for row, other in zip(itself, rows, strict=True))
    assert f"{rows[0]['spearman']:.2f}" in cli(*argv).out
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_every_subject_says_what_it_takes() -> None:
    assert list(MEASURE) == list(TAKES)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("mop",), "There is no subject 'mop': did you mean 'map'?"),
        (("map", "--sets", 3), "--sets is not for analyse map: it takes --early, --keep, --late, --plot, --score."),
        (("sets", "--plot", "x.png"), "--plot is not for analyse sets: it takes --sets."),
        (("map", "--keep", "0.1:1:3"), "--keep takes one share here, such as 0.5"),
        (("keep", "--early", "1,2"), "--early takes one layer here"),
        (("map", "--early", "1.5"), "--early '1.5' holds 1.5: layers are whole numbers."),
        (("map", "--early", "9"), "There is no early layer 9: they are counted from 1 to 3 here."),
        (("map", "--early", "3", "--late", "2"), "No late layer comes after an early one"),
        (("attention", "--keep", "0"), "keep=0.0 leaves nothing to compare"),
        (("map", "--samples", "0"), "--samples 0 is out of range"),
        (("map", "--score", "delte"), "There is no score 'delte'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_mistakes(cli, model, words, sentence) -> None:
    ran = cli("analyse", *words, "--model", model)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(sentence)
    assert ran.err.count("\n") == 1
