"""`runs/gpu.py`: what a failed check and a broken table do to the figures; the run itself is rehearsed by hand."""

import json
import sys

import pytest
import torch

import gpu
import gpu_tables
from gpu_checks import GRAPH, REPLAY, Check, verdict
from gpu_tables import Row


@pytest.fixture
def rehearsal(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--out", str(tmp_path)])

    def run(worst: float | Exception, *tables: list) -> tuple[dict, str]:
        def check():
            if isinstance(worst, Exception):
                raise worst
            return Check("scan float32", 1, worst, 1e-5, "scan")

        def broken(rows):
            for row in rows:
                if isinstance(row, BaseException):
                    raise row
                yield row

        def sections(config, device, tiny, swept, failed):
            yield from ((lambda rows=rows: broken(rows)) for rows in tables if not failed)

        monkeypatch.setattr(gpu, "checks", lambda *given: [("scan", check)])
        monkeypatch.setattr(gpu, "sections", sections)
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


@pytest.mark.parametrize("worst", [1.0, float("nan"), RuntimeError("no cubin")])
def test_no_figure_without_its_check(rehearsal, tmp_path, worst):
    with pytest.raises(SystemExit, match="no figure of what it guards, scan, was taken"):
        rehearsal(worst, [Row("prefill", "none", 750, 9.0)])
    assert json.loads((tmp_path / "gpu.json").read_text())["rows"] == []
    assert "FAILED" in (tmp_path / "bench_gpu.md").read_text()


def test_one_unwritten_value_among_many_cases_fails():
    assert not verdict("scan", torch.float32, [0.0, float("nan"), 0.0], 1e-5).passed
    assert verdict("scan", torch.float32, [0.0, 1e-6], 1e-5).worst == 1e-6


def measured(broken: set[str], monkeypatch) -> list[str]:
    """Names of the rows that are taken, on a layer and a model of a few channels, with nothing run."""
    monkeypatch.setattr(gpu_tables, "milliseconds", lambda *given, **more: 1.0)
    monkeypatch.setattr(gpu_tables, "copy_bandwidth", lambda device: 1e9)
    tables = gpu.sections(gpu.TINY, torch.device("cpu"), True, True, frozenset(broken))
    return [row.name for table in tables for row in table()]


def test_a_failed_check_suppresses_its_own_kernel_and_the_model(monkeypatch):
    whole = measured(set(), monkeypatch)
    models = {"none", "dtp:keep=0.5", "a question on an encoded image", "batch 1, eager"}
    assert models | {"selective_scan", "causal_conv1d", "rms_norm"} < set(whole)
    steps, scans = ([name for name in whole if name.startswith(word)] for word in ("Plan", "lanes"))
    assert steps
    assert scans
    assert measured({"causal_conv1d"}, monkeypatch) == ["selective_scan", "rms_norm", *steps, *scans]
    assert measured({"selective_scan"}, monkeypatch) == ["causal_conv1d", "rms_norm", *steps]
    without = [name for name in whole if name not in (*steps, "batch 1, eager")]
    assert measured({"layer_step"}, monkeypatch) == without, "a prefill takes no steps"
    assert measured({GRAPH, REPLAY}, monkeypatch) == whole, "what runs without graphs needs none"


def test_a_broken_table_does_not_take_the_others_along(rehearsal, tmp_path):
    with pytest.raises(SystemExit, match="capture"):
        rehearsal(1e-6, [Row("a", "one", 1, 1.0), RuntimeError("capture")], [Row("b", "two", 1, 1.0)])
    assert [row["name"] for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]] == ["one", "two"]


def test_when_the_time_is_up_what_was_found_is_told(rehearsal, tmp_path, capsys):
    with pytest.raises(SystemExit, match="stopped before the end"):
        rehearsal(1e-6, [Row("a", "one", 1, 1.0), KeyboardInterrupt(), Row("a", "two", 1, 1.0)])
    assert [row["name"] for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]] == ["one"]
    assert "| one | 1 | 1.000 |" in capsys.readouterr().out


def test_a_rehearsal_never_writes_to_numbers(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "rehearsal" in capsys.readouterr().err
