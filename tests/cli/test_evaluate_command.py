"""`deltaprune evaluate`: what is kept in a folder, what is refused before any work, and what a failure looks like."""

import json
from pathlib import Path

import pytest

from deltaprune.vlm import VLM

ASK = ("evaluate", "--limit", 12, "--method", "dtp:keep=0.5")


def test_a_folder_of_answers(cli, model, tmp_path):
    out = tmp_path / "out"
    first = cli(*ASK, "--model", model, "--out", out, "--json").rows
    kept = {file: (out / file).read_text() for file in ("answers.jsonl", "report.md", "report.csv")}
    assert len(kept["answers.jsonl"].splitlines()) == 2 * 12
    again = cli(*ASK, "--model", model, "--out", out, "--json").rows
    (row,), (same,) = first, again
    assert {**row, "ms": 0} == {**same, "ms": 0}
    assert row["ms"] > 0 == same["ms"]
    assert (out / "answers.jsonl").read_text() == kept["answers.jsonl"]
    methods = [each["method"] for each in json.loads((out / "report.json").read_text())["rows"]]
    assert methods == ["dtp:keep=0.5", "none"]
    assert "`dtp:keep=0.5`" in kept["report.md"]
    assert cli(*ASK, "--model", model, "--no-prefix", "--json").rows[0]["by_skill"] == row["by_skill"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--engine", "rya"), "There is no engine 'rya': did you mean 'ray'? (the known ones are local, ray)."),
        (("--protocol", "cobra"), "scenes has no protocol 'cobra': the known ones are official."),
        (("--data", "."), "The benchmark 'scenes' reads no files: leave out --data."),
        (("--allow-partial",), "The benchmark 'scenes' reads no files: leave out --allow-partial."),
        (("--no-ocr",), "The benchmark 'scenes' has no OCR tokens: leave out --no-ocr."),
        (("--benchmark", "qqa"), "There is no benchmark 'qqa': did you mean 'gqa'?"),
        (("--split", "tset"), "scenes has no split 'tset': did you mean 'test'?"),
        (("--workers", 0), "--workers 0 is out of range"),
        (("--workers", 2), 'The engine "local" is one process on this machine'),
        (("--track", "wanbd:lab"), "There is no tracker 'wanbd': did you mean 'wandb'?"),
        (("--address", "auto"), 'The engine "local" is one process on this machine'),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_mistakes(cli, model, options, sentence):
    ran = cli(*ASK, "--model", model, *options)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(sentence)
    assert ran.err.count("\n") == 1


def test_a_folder_that_is_a_file(cli, model, tmp_path):
    (tmp_path / "file").write_text("")
    ran = cli(*ASK, "--model", model, "--out", tmp_path / "file")
    assert (ran.code, ran.out) == (2, "")
    assert "choose another --out" in ran.err


def test_a_question_that_fails_is_told_and_changes_the_exit_code(cli, model, tmp_path, monkeypatch):
    pack = VLM.pack

    def fails(self, inputs, visual=None):
        rows = pack(self, inputs, visual)
        if repr(self.method).startswith("DTP") and len(rows.lengths) == 1:
            raise RuntimeError("out of paint")
        return rows

    monkeypatch.setattr(VLM, "pack", fails)
    ran = cli(*ASK, "--model", model, "--out", tmp_path, "--batch-size", 11)
    assert ran.code == 1
    assert "questions failed and are left out; test-0-00000" in ran.err
    assert "RuntimeError: out of paint" in ran.err
    assert "RuntimeError: out of paint" in Path(tmp_path / "errors.jsonl").read_text()
    monkeypatch.undo()
    assert cli(*ASK, "--model", model, "--out", tmp_path).code == 0
