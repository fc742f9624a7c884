"""A report as a data frame: report.csv's columns and numbers."""

import sys
from io import StringIO

import pandas
import pytest
from answers import answers, row

from deltaprune import UserError
from deltaprune.benchmarks import Summary, mean_of_skills
from deltaprune.evaluate import Report, evaluate
from deltaprune.evaluate.report import csv
from deltaprune.mllm.processor import Processor
from deltaprune.vlm import VLM


def test_a_frame_has_what_the_csv_has(tiny: tuple[VLM, Processor]) -> None:
    report = evaluate(*tiny, "scenes", ["none", "dtp:keep=0.5"], limit=12, max_new_tokens=2)
    frame = report.to_pandas()
    read = pandas.read_csv(StringIO(csv(report.document())))
    assert list(frame.columns) == list(read.columns)
    assert frame["method"].tolist() == ["none", "dtp:keep=0.5"]
    for column in ("accuracy", "low", "high", "against_none_points", "agreement", "macs_share", "skill: counting"):
        assert frame[column].tolist() == pytest.approx(read[column].tolist(), nan_ok=True)
    latex = frame[["method", "accuracy"]].to_latex(index=False)
    assert r"\toprule" in latex
    assert "dtp:keep=0.5" in latex


def test_a_report_is_a_list_and_keeps_its_own_summary() -> None:
    """Of a benchmark that nobody registered."""
    rows = [row("none", answers(10, 0.5, seed=1), benchmark="mine", protocol="mine")]

    def ten(graded: object) -> Summary:
        return Summary(10.0, {}, {})

    report = Report(rows, ten)
    assert report == rows
    assert report[:1] == rows
    assert report.document()["rows"][0]["interval"] == [10.0, 10.0]
    with pytest.raises(UserError, match="mine"):
        Report(rows).document()
    registered = Report([row("none", answers(10, 0.5, seed=1))])
    assert registered.document() == Report(registered, mean_of_skills).document()


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"^to_pandas needs pandas, which is not installed: pip install pandas\.$"):
        Report().to_pandas()
