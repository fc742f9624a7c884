"""`plot tradeoff`: points where their cost and accuracy put them."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_figures
from answers import answers, row
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from deltaprune import UserError
from deltaprune.analysis.figures import tradeoff_curves
from deltaprune.cli import run
from deltaprune.evaluate.report import write_report

NONE = (1.0, 98.0, 97.5, 98.5)
APART = {"dtp": [(0.9, 80, 79, 81), (0.6, 70, 69, 71)], "fastv": [(0.75, 60, 58, 62)]}
CROWDED = {f"method {i}": [(0.6, 70 + 0.1 * i, 69, 71), (0.9, 80, 79 + i / 9, 82)] for i in range(9)}
FIGURES = {
    "apart": lambda: tradeoff_curves(APART, NONE, "Accuracy against cost, bundled on scenes\n10,000 questions"),
    "crowded": lambda: tradeoff_curves(CROWDED, NONE, "Accuracy against cost"),
    "long names": lambda: tradeoff_curves(
        {f"dtp, score=hidden_attention, late={i}": APART["dtp"] for i in (12, 13)}, NONE
    ),
    "one point": lambda: tradeoff_curves({"dtp": [(0.5, 50, 50, 50)]}),
}


def curves(figure: Figure) -> dict[str, ErrorbarContainer]:
    held = [each for each in figure.axes[0].containers if isinstance(each, ErrorbarContainer)]
    return {str(each.get_label()): each for each in held}


def drawn_at(curve: ErrorbarContainer) -> list[tuple[float, float]]:
    return [tuple(each) for each in curve.lines[0].get_xydata().tolist()]


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_reads_well(draw: Callable[[], Figure]) -> None:
    test_figures.test_reads_well_in_print(draw)
    figure = draw()
    FigureCanvasAgg(figure).draw()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_tightbbox())
    looks = {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in curves(figure).values()}
    assert len(looks) == len(curves(figure))


def test_points_stand_at_their_cost() -> None:
    figure = tradeoff_curves(APART, NONE)
    axes, found = figure.axes[0], curves(figure)
    assert drawn_at(found["dtp"]) == [(60, 70), (90, 80)]  # from the cheapest on
    assert drawn_at(found["fastv"]) == [(75, 60)]
    (bar,) = found["fastv"].lines[2]
    assert [segment.tolist() for segment in bar.get_segments()] == [[[75, 58], [75, 62]]]
    assert axes.get_xlabel() == "MACs of the LM's prefill, % of none"
    dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    assert [(line.get_ydata()[0], line.get_label()) for line in dashed] == [(98.0, "none: 98.0 %")]


def test_points_that_coincide_stand_where_they_are_and_are_told_apart() -> None:
    """Each marker is hollow and smaller than the one before."""
    figure = tradeoff_curves(CROWDED, NONE)
    found = curves(figure)
    for name, points in CROWDED.items():
        assert drawn_at(found[name]) == [(100 * share, mean) for share, mean, _, _ in points]
    lines = [curve.lines[0] for curve in found.values()]
    sizes = [line.get_markersize() for line in lines]
    assert all(first > second for first, second in itertools.pairwise(sizes))
    assert {line.get_markerfacecolor() for line in lines} == {"none"}
    assert figure.axes[0].get_xlabel() == "MACs of the LM's prefill, % of none"


def test_a_mean_outside_its_interval_is_drawn() -> None:
    (bar,) = curves(tradeoff_curves({"dtp": [(0.5, 50, 51, 60)]}))["dtp"].lines[2]
    assert [segment.tolist() for segment in bar.get_segments()] == [[[50, 50], [50, 60]]]


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        ({}, "There is nothing to draw: give at least one method with one point."),
        ({"dtp": []}, "There is nothing to draw"),
        ({"dtp": [(0.5, 50)]}, "A point has 2 numbers: give share, accuracy, low and high."),
    ],
)
def test_mistakes_are_told(methods: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tradeoff_curves(methods)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report with the unpruned row and three methods, partial."""
    about: dict[str, Any] = {"partial": True, "total": 900}
    rows = [
        row("none", answers(30, 0.9, 1), macs_share=1.0, **about),
        row("dtp:keep=0.9", answers(30, 0.8, 2), macs_share=0.9, **about),
        row("dtp:keep=0.5", answers(30, 0.7, 3), macs_share=0.6, **about),
        row("dtp:late=none,keep=0.4", answers(30, 0.7, 4), macs_share=0.6, **about),
        row("vtw:after=9", answers(30, 0.5, 5), macs_share=0.58, **about),
    ]
    write_report(tmp_path / "run", rows)
    return tmp_path / "run" / "report.json"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the figure was given."""
    seen: dict[str, Any] = {}

    def spy(methods: Any, unpruned: Any, title: str) -> Figure:
        seen.update(methods=methods, unpruned=unpruned, title=title)
        return tradeoff_curves(methods, unpruned, title)

    monkeypatch.setattr("deltaprune.analysis.figures.tradeoff_curves", spy)
    return seen


def test_the_command(report: Path, tmp_path: Path, drawn: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plot", "tradeoff", str(report), "--out", str(tmp_path / "curve.svg")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'curve.svg'}\n"
    held = json.loads(report.read_text())["rows"]
    points = [(each["macs_share"], each["mean"], *each["interval"]) for each in held]
    assert drawn["unpruned"] == points[0]
    assert drawn["methods"] == {"dtp": points[1:3], "dtp, late=none": points[3:4], "vtw": points[4:]}
    assert drawn["title"] == (
        "Accuracy against cost, bundled on scenes\n80 questions, partial: 80 of 900, protocol official"
    )


def test_several_reports(report: Path, tmp_path: Path, drawn: dict[str, Any]) -> None:
    """A method that stands in two is drawn once, from the longer run."""
    write_report(tmp_path, [row("dtp:keep=0.9", answers(60, 0.8, 6)), row("dart:keep=0.5", answers(60, 0.8, 7))])
    files = [str(report), str(tmp_path / "report.json")]
    assert run(["plot", "tradeoff", *files, "--out", str(tmp_path / "x.png")]) == 0
    assert list(drawn["methods"]) == ["dtp", "dtp, late=none", "vtw", "dart"]
    assert drawn["methods"]["dtp"][0][0] == 0.5
    assert "80 to 160 questions, partial: 80 of 900" in drawn["title"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("", "plot tradeoff needs a report: give the report.json of deltaprune evaluate --out DIR."),
        ("nowhere.json", "The report 'nowhere.json' cannot be read (No such file or directory)"),
        ("BROKEN", "is not a report, because it is not JSON"),
        ("EMPTY", "is not a report, because it has no rows"),
        ("PART", "is not a report, because a row lacks 'method'"),
        ("REPORT OTHER", "has seed 1 beside 0: a figure is about one seed, so draw them apart."),
        ("REPORT --model bundled", "--model is not for plot tradeoff: it takes REPORT."),
        ("REPORT --device cpu", "--device is not for plot tradeoff"),
        ("REPORT --layers 2", "--layers is not for plot tradeoff"),
    ],
)
def test_mistakes_on_the_command_line(
    argv: str, sentence: str, report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty.json").write_text('{"rows": []}')
    part = dict.fromkeys(("model", "benchmark", "protocol", "split", "seed"), "x")
    (tmp_path / "part.json").write_text(json.dumps({"rows": [part]}))
    write_report(tmp_path / "other", [row("none", answers(3, 0.5, 1), seed=1)])
    files = {"BROKEN": "broken.json", "EMPTY": "empty.json", "PART": "part.json", "OTHER": "other/report.json"}
    words = [str(tmp_path / files[word]) if word in files else word for word in argv.split()]
    words = [str(report) if word == "REPORT" else word for word in words]
    assert run(["plot", "tradeoff", *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_the_other_figures_take_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plot", "spread", "report.json"]) == 2
    assert re.match("REPORT is not for plot spread: it takes", capsys.readouterr().err)
