"""Rows for other programs: CSV says what JSON says, LaTeX and Markdown what the table says."""

import csv
import json
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from deltaprune.cli._forms import csv as as_csv
from deltaprune.cli._forms import latex, md
from deltaprune.cli._grid import Grid

COST = ("cost", "--model", "cobra", "--method", "none", "--method", "dtp:keep=0.5")
ROWS = [
    *(["cost"], ["budget", "--macs", 0.5], ["methods"], ["evaluate", "--limit", 12, "--model", "MODEL"]),
    *(["ask", "SCENE", "What?", "Where | is_it?", "--model", "MODEL"], ["bench", "--rounds", 1, "--model", "MODEL"]),
    ["calibrate", "--samples", 2, "--rule", "argmin", "--model", "MODEL"],
]


@pytest.mark.parametrize("argv", ROWS, ids=lambda argv: argv[0])
def test_every_command_speaks_every_format(argv: list[Any], cli: Callable[..., Any], model: Path, scene: Path) -> None:
    words = [{"MODEL": model, "SCENE": scene}.get(word, word) for word in argv]
    ran = {form: cli(*words, "--format", form) for form in ("csv", "latex", "md")}
    assert {(each.code, each.err) for each in ran.values()} == {(0, "")}
    lines = list(csv.reader(StringIO(ran["csv"].out)))
    assert len(lines) > 1
    assert {len(line) for line in lines} == {len(lines[0])}
    tables = ran["latex"].out.count(r"\begin{tabular}")
    assert tables == ran["latex"].out.count(r"\end{tabular}") == len(re.findall(r"^\| -", ran["md"].out, re.MULTILINE))
    for line in ran["latex"].out.splitlines():
        assert not line or line.startswith(("%", "\\")) or re.search(r" \\\\$", line), line
        if not line.startswith("%"):
            assert not re.search(r"(?<!\\)[%$#_]", line), line


def test_csv_has_jsons_names_and_numbers(cli: Callable[..., Any]) -> None:
    rows = cli(*COST, "--json").rows
    lines = list(csv.DictReader(StringIO(cli(*COST, "--format", "csv").out)))
    assert [line["method"] for line in lines] == ["none", "dtp:keep=0.5"]
    for row, line in zip(rows, lines, strict=True):
        assert float(line["share"]) == row["share"]
        assert int(line["macs.total"]) == row["macs"]["total"]
        assert line["kept"] == " ".join(map(str, row["kept"] or []))


def test_json_is_the_same_by_either_name(cli: Callable[..., Any]) -> None:
    assert (
        cli(*COST, "--format", "json").rows
        == cli(*COST, "--json", "--format", "json").rows
        == cli(*COST, "--json").rows
    )
    assert cli(*COST, "--format", "table").out == cli(*COST).out


def test_what_ask_says_about_the_overlay_is_not_among_the_rows(
    cli: Callable[..., Any], model: Path, scene: Path, tmp_path: Path
) -> None:
    argv = ("ask", scene, "What?", "--model", model, "--overlay", tmp_path / "kept.png", "--format")
    for form in ("csv", "md", "latex"):
        ran = cli(*argv, form)
        assert ran.code == 0
        assert "wrote" in ran.err
        assert "wrote" not in ran.out


def test_the_last_object_of_bench_is_no_row() -> None:
    rows = [{"name": "a", "by": {"x": 1.5, "y": None}}, {"name": "b", "kept": [3, 0], "ok": True}, {"ratios": {}}]
    assert as_csv(rows) == "name,by.x,by.y,kept,ok\na,1.5,,,\nb,,,3 0,true\n"


def test_a_single_object_is_one_row_and_lists_of_objects_are_json() -> None:
    assert as_csv({"a": 1, "b": [[1, "w"]]}) == 'a,b\n1,"[[1, ""w""]]"\n'


def test_letters_that_mean_something_are_escaped() -> None:
    grid = Grid(["name", "a_b"], [["50% & $x$ #1 {a} ~ ^ \\", "1"], None, ["a|b\x1b", "2"]], "100% of\nit", "Title_1")
    assert latex(grid).splitlines() == [
        "% Title_1",
        "% 100% of it",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"name & a\_b \\",
        r"\midrule",
        r"50\% \& \$x\$ \#1 \{a\} \textasciitilde{} \textasciicircum{} \textbackslash{} & 1 \\",
        r"\midrule",
        r"a|b\textbackslash{}x1b & 2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    page = md(grid)
    assert page.splitlines()[2:4] == ["| name | a_b |", "| --- | ---: |"]
    assert r"| a\|b\x1b | 2 |" in page
    assert page.startswith("**Title_1**\n\n|")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--format", "latx"), "There is no format 'latx': did you mean 'latex'? (the known ones are csv, "),
        (("--json", "--format", "csv"), "--json and --format csv are two formats: ask for one of them."),
        (("-v", "--quiet"), "--verbose and --quiet are opposites: leave one of them out."),
    ],
)
def test_mistakes_of_format(options: tuple[str, ...], sentence: str, cli: Callable[..., Any]) -> None:
    ran = cli(*COST, *options)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(sentence)


def test_what_prints_no_rows_has_no_format(cli: Callable[..., Any]) -> None:
    for command in ("plot", "convert"):
        assert "--format" not in cli(command, "--help").out
    assert json.loads(cli("methods", "--format", "json").out).keys() == {"methods", "scores"}
