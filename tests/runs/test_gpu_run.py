"""`runs/gpu.py`: what a failed check and a broken table do to the figures; the run itself is rehearsed by hand."""

import json
import sys

import pytest

import gpu
from gpu_checks import Check
from gpu_tables import Row


@pytest.fixture
def rehearsal(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--out", str(tmp_path)])

    def run(worst: float, *tables: list) -> tuple[dict, str]:
        def broken(rows):
            for row in rows:
                if isinstance(row, Exception):
                    raise row
                yield row

        monkeypatch.setattr(gpu, "checks", lambda *given: iter([Check("scan", 1, worst, 1e-5)]))
        monkeypatch.setattr(gpu, "sections", lambda *given: (broken(rows) for rows in tables))
        try:
            gpu.main()
        finally:
            document = json.loads((tmp_path / "gpu.json").read_text())
        return document, (tmp_path / "bench_gpu.md").read_text()

    return run


def test_rows_are_written_beside_their_floors(rehearsal):
    document, told = rehearsal(1e-6, [Row("prefill", "none", 750, 9.0, 6.0)])
    assert document["rows"][0]["ratio"] == 1.5
    assert "| none | 750 | 9.000 | 6.000 | 1.500 |" in told
    assert "its times mean nothing" in told, "a rehearsal says so"


@pytest.mark.parametrize("worst", [1.0, float("nan")])
def test_no_figure_without_its_check(rehearsal, tmp_path, worst):
    with pytest.raises(SystemExit, match="nothing was measured"):
        rehearsal(worst, [Row("prefill", "none", 750, 9.0)])
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"] == []
    assert "FAILED" in (tmp_path / "bench_gpu.md").read_text()


def test_a_broken_table_does_not_take_the_others_along(rehearsal, tmp_path):
    with pytest.raises(SystemExit, match="capture"):
        rehearsal(1e-6, [Row("a", "one", 1, 1.0), RuntimeError("capture")], [Row("b", "two", 1, 1.0)])
    assert [row["name"] for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]] == ["one", "two"]


def test_a_rehearsal_never_writes_to_numbers(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "rehearsal" in capsys.readouterr().err
