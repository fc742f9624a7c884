"""Who hears of an evaluation's results, and what: rows in order, then the report; a tracker gets steps and a table."""

import logging
import sys
from types import ModuleType
from typing import Any

import pytest

from deltaprune import UserError
from deltaprune.evaluate import MethodResult, Report, Tracker, evaluate
from deltaprune.evaluate.recorders import TRACKERS, open_tracker
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM

METHODS = ["dtp:keep=0.5", "none"]


class Heard:
    def __init__(self) -> None:
        self.rows: list[MethodResult] = []
        self.reports: list[Report] = []

    def on_row(self, row: MethodResult) -> None:
        assert not self.reports
        self.rows.append(row)

    def on_report(self, report: Report) -> None:
        self.reports.append(report)


class Broken(Heard):
    def on_row(self, row: MethodResult) -> None:
        raise ConnectionError("no network")


class Board(ModuleType):
    """What wandb and trackio have in common, and a list of what was called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []

    def init(self, **options: Any) -> None:
        print("a message of its own")
        self.calls.append(("init", options))

    def log(self, values: dict[str, Any]) -> None:
        self.calls.append(("log", values))

    def finish(self) -> None:
        print("a message of its own")
        self.calls.append(("finish", None))

    def Table(self, columns: list[str], data: list[list[Any]]) -> list[dict[str, Any]]:
        return [dict(zip(columns, line, strict=True)) for line in data]


@pytest.fixture(params=TRACKERS)
def board(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board(request.param)
    monkeypatch.setitem(sys.modules, request.param, board)
    return board


def test_recorders_hear_what_is_returned(tiny: tuple[VLM, Processor], caplog: pytest.LogCaptureFixture) -> None:
    """Also after one that fails."""
    heard = Heard()
    with caplog.at_level(logging.WARNING):
        report = evaluate(*tiny, "scenes", METHODS, limit=6, max_new_tokens=2, recorders=[Broken(), heard])
    assert heard.rows == list(report)
    assert [row.method for row in heard.rows] == METHODS
    assert heard.reports == [report]
    assert [record.getMessage() for record in caplog.records] == [
        "Broken failed (ConnectionError: no network); the results are complete"
    ]


def test_a_tracker_gets_a_step_for_each_row_and_a_table(
    tiny: tuple[VLM, Processor], board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(board.__name__, "mine", name="first")
    report = evaluate(*tiny, "scenes", METHODS, limit=6, max_new_tokens=2, recorders=[tracker])
    names, values = zip(*board.calls, strict=True)
    assert names == ("init", "log", "log", "log", "finish")
    assert (values[0]["project"], values[0]["name"]) == ("mine", "first")
    about = {"model": "tiny", "benchmark": "scenes", "protocol": "official", "split": "test", "seed": 0, "n": 6}
    assert values[0]["config"].items() >= about.items()
    for row, step in zip(report, values[1:3], strict=True):
        assert (step["method"], step["mean"], step["macs_share"]) == (row.method, row.mean, row.macs_share)
        assert {name: step[f"skill/{name}"] for name in row.by_skill} == row.by_skill
    assert [(line["method"], line["kept"]) for line in values[3]["methods"]] == [
        ("dtp:keep=0.5", "8, 0"),
        ("none", "all"),
    ]


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_told_is_refused_before_the_work(tiny: tuple[VLM, Processor]) -> None:
    given: list[tuple[Any, str]] = [(Heard(), "takes a list of recorders, not a Heard"), ([print], "is not a recorder")]
    for recorders, sentence in given:
        with pytest.raises(UserError, match=sentence):
            evaluate(*tiny, "scenes", METHODS, limit=10**9, recorders=recorders)


@pytest.mark.parametrize(("text", "project"), [("", "deltaprune"), (":lab", "lab")])
def test_a_tracker_by_its_name(text: str, project: str, board: Board) -> None:
    assert open_tracker(board.__name__ + text).project == project


def test_mistakes_with_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no tracker 'wanbd': did you mean 'wandb'\?"):
        open_tracker("wanbd:lab")
    monkeypatch.setitem(sys.modules, "wandb", None)  # what an import of a missing package meets
    with pytest.raises(UserError, match=r"^wandb is not installed: pip install wandb\.$"):
        Tracker("wandb")
