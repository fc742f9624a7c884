"""`deltaprune plot growth`: from bench's file or measured, and its sentence for each mistake."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from deltaprune.analysis import figures
from deltaprune.cli import _grown


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the figure was given."""
    seen: list[tuple] = []
    draw = figures.growth_curves

    def spy(*columns: object) -> Figure:
        seen.append(columns)
        return draw(*columns)

    monkeypatch.setattr(figures, "growth_curves", spy)
    return seen


def test_from_the_file_that_bench_prints(cli: Callable, model: Path, tmp_path: Path, given: list[tuple]) -> None:
    argv = ("bench", "--model", model, "--growth", "--most-tokens", 32, "--rounds", 1, "--json")
    rows = cli(*argv).rows
    file, out = tmp_path / "growth.json", tmp_path / "growth.png"
    file.write_text(json.dumps(rows))
    ran = cli("plot", "growth", file, "--out", out)
    assert (ran.code, ran.err, ran.out.strip()) == (0, "", str(out))
    assert out.read_bytes()[:4] == b"\x89PNG"
    tokens, ms, peak, title = given[0]
    assert (tokens, ms, peak) == tuple(
        [row[key] for row in rows[:-1]] for key in ("tokens", "prefill_ms", "peak_bytes")
    )
    assert title == "Cost of a prefill, tiny\nfloat32 on cpu, no pruning"


def test_measured_where_no_file_is_given(
    cli: Callable, model: Path, tmp_path: Path, given: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_grown, "LENGTHS", (4, 8))
    assert cli("plot", "growth", "--model", model, "--out", tmp_path / "g.svg").code == 0
    assert given[0][0] == [4, 8]


ROW = {"name": "m", "method": "none", "batch": 1, "dtype": "float32", "device": "cpu", "prefill_ms": 1, "peak_bytes": 1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read (No such file or directory): give the file of deltaprune bench --growth --json."),
        ("{", "is not a report, because it is not JSON"),
        ('{"a": 1}', "holds no growth, two or more lengths ascending"),
        (json.dumps([{**ROW, "tokens": 4}, {"ratios": {}}]), "holds no growth"),
        (json.dumps([{**ROW, "tokens": 4}, {**ROW, "tokens": 4}, {"ratios": {}}]), "holds no growth"),
        (json.dumps([{"tokens": 4}, {"tokens": 8}, {"ratios": {}}]), "holds no growth"),
    ],
)
def test_files_that_are_none(cli: Callable, tmp_path: Path, text: str | None, sentence: str) -> None:
    file = tmp_path / "growth.json"
    if text is not None:
        file.write_text(text)
    ran = cli("plot", "growth", file, "--out", tmp_path / "g.png")
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_several_files(cli: Callable, tmp_path: Path) -> None:
    ran = cli("plot", "growth", "a.json", "b.json", "--out", tmp_path / "g.png")
    assert ran.code == 2
    assert "plot growth draws one file and was given 2" in ran.err
