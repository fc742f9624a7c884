"""`deltaprune sweep`: rows, folder, figure and mistakes."""

import json
from typing import Any

import pytest

from deltaprune.analysis import figures
from deltaprune.cli._ranges import numbers_of
from deltaprune.errors import UserError

ASK = ("sweep", "--limit", 12, "--method", "dtp")


def test_rows_a_report_and_a_figure(cli, model, tmp_path, monkeypatch) -> None:
    drawn: dict[str, Any] = {}

    def draw(methods, unpruned, title):
        drawn.update(methods=methods, unpruned=unpruned, title=title)
        return tradeoff(methods, unpruned, title)

    tradeoff = figures.tradeoff_curves
    monkeypatch.setattr(figures, "tradeoff_curves", draw)
    argv = (
        *ASK,
        "--method",
        "fastv",
        "--model",
        model,
        "--share",
        "0.86:0.89:2",
        "--out",
        tmp_path / "out",
        "--plot",
        tmp_path / "f.svg",
    )
    rows = cli(*argv, "--json").rows
    assert [row["method"].split(":")[0] for row in rows] == ["none", "dtp", "dtp", "fastv", "fastv"]
    assert all(row["macs_share"] <= share + 0.01 for row, share in zip(rows, (1, 0.86, 0.89, 0.86, 0.89), strict=True))
    single = cli("evaluate", "--limit", 12, "--model", model, "--method", rows[1]["method"], "--json").rows[0]
    assert {**rows[1], "ms": 0} == {**rows[1], **single, "ms": 0}
    assert rows[1]["interval"][0] <= rows[1]["mean"] <= rows[1]["interval"][1]
    assert list(drawn["methods"]) == ["dtp", "fastv"]
    assert [point[0] for point in drawn["methods"]["dtp"]] == [row["macs_share"] for row in rows[1:3]]
    assert drawn["unpruned"][1] == rows[0]["mean"]
    assert (tmp_path / "f.svg").stat().st_size > 1000
    kept = (tmp_path / "out" / "answers.jsonl").read_text()
    reported = json.loads((tmp_path / "out" / "report.json").read_text())["rows"]
    assert [row["method"] for row in reported] == [row["method"] for row in rows]
    told = cli(*argv)
    assert (told.code, told.err) == (0, "")
    assert (tmp_path / "out" / "answers.jsonl").read_text() == kept  # nothing was asked again
    assert f"{100 * rows[1]['macs_share']:.1f}%" in told.out


def test_a_point_out_of_reach_is_left_out_aloud(cli, model) -> None:
    ran = cli(*ASK, "--method", "freeze", "--model", model, "--share", "0.7,0.88", "--json")
    assert ran.code == 0
    assert [row["method"].split(":")[0] for row in json.loads(ran.out)].count("freeze") == 1
    assert "Left out: freeze cannot meet a MACs share of 0.7" in ran.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--keep", "0.1:1"),
            "--keep '0.1:1' is not a list of numbers: write 0.25,0.5 or 0.1:1:10 (ten from 0.1 to 1).",
        ),
        (("--share", "a"), "--share 'a' is not a list of numbers"),
        (("--keep", "0.5", "--share", "0.5"), "--keep and --share are two ways to choose the points of a sweep"),
        (("--keep", "1.5"), "keep=1.5 is not a share"),
        (("--plot", "nowhere/f.png"), "--plot 'nowhere/f.png': the folder 'nowhere' does not exist"),
        (("--plot", "f.txt"), "'f.txt' does not end in a format for figures"),
        (("--engine", "rya"), "There is no engine 'rya'"),
        (("--method", "dtp:keep=0.3"), "Method 'dtp:keep=0.3' already gives keep"),
        (("--split", "tset"), "scenes has no split 'tset': did you mean 'test'?"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_mistakes(cli, model, options, sentence) -> None:
    ran = cli(*ASK, "--model", model, *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(sentence)
    assert ran.err.count("\n") == 1


def test_ranges() -> None:
    assert numbers_of("--keep", "0.1:1:4") == (0.1, 0.4, 0.7, 1.0)
    assert numbers_of("--keep", "0.5, 0.25,0.5") == (0.5, 0.25)
    assert numbers_of("--keep", None) == ()
    for text in ("", "0.1:1:1", "0.1:1:2.5", "0.1:1:x", "nan", "1:2:3:4", "0:1:100000"):
        with pytest.raises(UserError, match="is not a list of numbers"):
            numbers_of("--keep", text)
