"""Answers in a folder: nothing is asked twice, nothing old is taken for new, nothing written is lost."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from deltaprune import UserError
from deltaprune.benchmarks.scenes import Scenes
from deltaprune.checkpoints.folder import save_folder
from deltaprune.evaluate import evaluate
from deltaprune.evaluate.store import ANSWERS, ERRORS, Key, Note, Store, prompt_hash
from deltaprune.evaluate.units import Answer
from deltaprune.evaluate.work import Worker
from deltaprune.methods import parse

KEY = Key("model", "cpu", "DTP()", "toy 1", "prompt", "q1")
NOTE = Note("dtp", "picture", "Is it?", "yes", "existence", "official", 1.0)
METHODS = ["dtp:keep=0.5", "random:keep=0.25,early=1"]
KILLS = 20


def add(store: Store, key: Key, answer: Answer) -> None:
    store.add({key: answer}, {key: NOTE}, {})


def run(tiny, out: Path, methods=METHODS, limit=24, **changes):
    settings = {"batch_size": 6, "max_new_tokens": 4, "limit": limit, **changes}
    return evaluate(*tiny, Scenes(), methods, out=out, **settings)


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, ...]]:
    """The ids of every unit that a worker was given."""
    units, answer = [], Worker.answer

    def counted(self, unit):
        units.append(tuple(sample.id for sample in unit.samples))
        return answer(self, unit)

    monkeypatch.setattr(Worker, "answer", counted)
    return units


def written(folder: Path) -> int:
    """How many answers are there, while somebody may be writing."""
    return (folder / ANSWERS).read_bytes().count(b"\n") if (folder / ANSWERS).exists() else 0


def lines(folder: Path) -> list[str]:
    return sorted((folder / ANSWERS).read_text().splitlines(), key=lambda line: json.loads(line)["id"])


def test_a_second_run_asks_nothing(tiny, tmp_path, asked):
    first = run(tiny, tmp_path)
    before, units = lines(tmp_path), len(asked)
    assert run(tiny, tmp_path) == first == run(tiny, tmp_path / "other")
    assert len(asked) == 2 * units  # none in the second run, all in another folder
    assert lines(tmp_path) == before


def test_more_questions_and_methods_are_added(tiny, tmp_path, asked):
    run(tiny, tmp_path, METHODS[:1], limit=6)
    rows = run(tiny, tmp_path)
    assert rows == run(tiny, tmp_path / "other")
    assert len(lines(tmp_path)) == len(set(lines(tmp_path))) == 3 * 24  # the unpruned model answers as well


@pytest.mark.parametrize(
    "change",
    [{"max_new_tokens": 5}, {"methods": ["dtp:keep=0.75"]}, {"seed": 1}, {"split": "val"}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_setting_meets_no_old_answer(tiny, tmp_path, asked, change):
    run(tiny, tmp_path, METHODS[:1], limit=6)
    del asked[:]
    run(tiny, tmp_path, **{"methods": METHODS[:1], "limit": 6, **change})
    assert len(asked) == 1


def test_another_model_or_plan_meets_no_old_answer(tiny, tmp_path, asked):
    vlm, processor = tiny
    run(tiny, tmp_path, METHODS[:1], limit=6)
    plan = vlm.config.plan
    try:
        vlm.use_plan(replace(plan, late=2))
        run((vlm, processor), tmp_path, METHODS[:1], limit=6)
    finally:
        vlm.use_plan(plan)
    assert len(asked) == 2


@pytest.mark.parametrize("name", [field.name for field in fields(Key)])
def test_every_part_of_the_key_counts(tmp_path, name):
    with Store(tmp_path) as store:
        add(store, KEY, Answer("q1", "yes"))
    with Store(tmp_path) as store:
        assert store.get(KEY) == Answer("q1", "yes")
        assert store.get(replace(KEY, **{name: "other"})) is None
    assert len({prompt_hash(*parts) for parts in (("i", "a", 1), ("j", "a", 1), ("i", "b", 1), ("i", "a", 2))}) == 4


def test_the_first_answer_stands(tmp_path):
    told = {"Yes": 0.75, "No": 0.25}
    with Store(tmp_path) as store:
        add(store, KEY, Answer("q1", "yes\u2028\nja", told))
        add(store, KEY, Answer("q1", "no"))
    with Store(tmp_path) as store:
        assert store.get(KEY) == Answer("q1", "yes\u2028\nja", told)
    assert len((tmp_path / ANSWERS).read_bytes().split(b"\n")) == 2


def test_two_runs_on_one_folder(tmp_path):
    with Store(tmp_path), pytest.raises(UserError, match="Another run is writing"), Store(tmp_path):
        pass
    with Store(tmp_path):
        pass


HOLDER = """
import sys, time
from pathlib import Path
from deltaprune.evaluate.store import Store

with Store(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_process_holds_the_folder_until_it_dies(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(UserError, match="Another run is writing"), Store(tmp_path):
                pass
        finally:
            process.kill()
    with Store(tmp_path) as store:
        add(store, KEY, Answer("q1", "yes"))


def test_a_folder_that_could_not_be_read_is_free_again(tmp_path):
    (tmp_path / ANSWERS).write_text("{}\n")
    with pytest.raises(UserError, match="is damaged"), Store(tmp_path):
        pass
    (tmp_path / ANSWERS).unlink()
    with Store(tmp_path) as store:
        assert len(store) == 0


def test_a_line_cut_off_is_asked_again(tiny, tmp_path):
    rows, whole = run(tiny, tmp_path), (tmp_path / ANSWERS).read_bytes()
    (tmp_path / ANSWERS).write_bytes(whole[:-7])
    assert run(tiny, tmp_path) == rows
    assert (tmp_path / ANSWERS).read_bytes() == whole


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / ANSWERS).write_text('{"id": "q1"}\n')
    with pytest.raises(UserError, match=r"Line 1 of .*answers.jsonl' is damaged"), Store(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), Store(tmp_path / "file" / "out"):
        pass


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) > 40:
            return write(handle, data[:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(tmp_path) as store:
        add(store, KEY, Answer("q1", "yes"))
        before = (tmp_path / ANSWERS).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(UserError, match=r"No space left on device.*the 1 answers before are safe"):
                add(store, replace(KEY, id="q2"), Answer("q2", "no"))
        assert (tmp_path / ANSWERS).read_bytes() == before
        add(store, replace(KEY, id="q2"), Answer("q2", "no"))
    with Store(tmp_path) as store:
        assert len(store) == 2


def test_a_disk_that_is_gone_is_told_all_the_same(tmp_path, monkeypatch):
    def gone(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with Store(tmp_path) as store, monkeypatch.context() as patch:
        patch.setattr(os, "write", gone)
        patch.setattr(os, "ftruncate", gone)
        with pytest.raises(UserError, match="Input/output error"):
            add(store, KEY, Answer("q1", "yes"))


def test_a_new_folder_and_its_files_have_their_names_on_the_disk(tmp_path, monkeypatch):
    """Else a power cut loses files whose content was synced."""
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino) or fsync(handle))
    with Store(tmp_path / "out"):
        assert {tmp_path.stat().st_ino, (tmp_path / "out").stat().st_ino} <= set(synced)


def test_a_sample_that_fails(tiny, tmp_path, monkeypatch):
    """It is told, left out under every method, takes no neighbour with it, and is asked again."""
    vlm, pack = tiny[0], type(tiny[0]).pack
    samples = list(Scenes().samples("test", 0, 12))
    broken = len(tiny[1].encode_text([samples[3].question])["input_ids"][0])

    def fails(self, inputs, visual=None):
        rows = pack(self, inputs, visual)
        text = [total - n for total, n in zip(rows.lengths, rows.n_visual, strict=True)]
        if type(self.method).__name__ == "DTP" and broken in text:
            raise RuntimeError("out of paint")
        return rows

    monkeypatch.setattr(type(vlm), "pack", fails)
    lengths = [len(tiny[1].encode_text([sample.question])["input_ids"][0]) for sample in samples]
    hit = {sample.id for sample, length in zip(samples, lengths, strict=True) if length == broken}
    rows = run(tiny, tmp_path, ["none", *METHODS], limit=12)
    assert {row.n for row in rows} == {12 - len(hit)}
    assert {frozenset(row.failed) for row in rows} == {frozenset(hit)}
    assert "RuntimeError: out of paint" in rows[0].failed[samples[3].id]
    assert [json.loads(line)["id"] for line in (tmp_path / ERRORS).read_text().splitlines()] == [
        sample.id for sample in samples if sample.id in hit
    ]
    monkeypatch.undo()
    again = run(tiny, tmp_path, METHODS, limit=12)
    assert again == run(tiny, tmp_path / "other", METHODS, limit=12)
    assert again[0].errors == 0


def test_all_that_fails(tiny, tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("no paint at all")

    monkeypatch.setattr(type(tiny[0]), "pack", fails)
    with pytest.raises(UserError, match=r"Every question failed, the first under .*no paint at all"):
        run(tiny, tmp_path)


@pytest.mark.slow
def test_killed_again_and_again(tiny, tmp_path):
    """At least 20 SIGKILLs at random moments of one run: the answers are those of an undisturbed run, byte for byte."""
    model, killed, whole = tmp_path / "tiny", tmp_path / "killed", tmp_path / "whole"
    save_folder(model, tiny[0].model, tiny[1].tokenizer)
    script = str(Path(__file__).with_name("kept_run.py"))
    subprocess.run([sys.executable, script, model, whole, *METHODS], check=True, capture_output=True)
    rng, kills, sizes = random.Random(0), 0, []
    while True:
        process = subprocess.Popen([sys.executable, script, model, killed, *METHODS], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        enough = written(killed) + rng.randint(1, 30)
        deadline = time.monotonic() + 60
        # counted in answers, so that a fast machine is killed as often as a slow one; then anywhere between two writes
        while process.poll() is None and written(killed) < enough:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.01))
        if process.poll() is not None or kills > 200:
            break
        process.kill()
        process.wait()
        process.stdout.close()
        kills += 1
        sizes.append(written(killed))
    process.stdout.close()
    assert process.returncode == 0
    assert kills >= KILLS, sizes
    assert lines(killed) == lines(whole)
    assert len(lines(whole)) == len(set(lines(whole))) == 3 * 240


def test_a_line_says_what_it_answers(tiny, tmp_path):
    rows = run(tiny, tmp_path)
    held = [json.loads(line) for line in (tmp_path / ANSWERS).read_text().splitlines()]
    for row, identity in zip(rows, map(repr, map(parse, METHODS)), strict=True):
        mine = {line["id"]: line for line in held if line["method"] == row.method}
        assert {line["identity"] for line in mine.values()} == {identity}
        for record in row.records:
            line = mine.pop(record.id)
            assert line["gold"] == record.answer
            names = ("image_id", "question", "prediction", "skill", "correct")
            assert [line[name] for name in names] == [getattr(record, name) for name in names]
            assert line["protocol"] == "official"
        assert not mine
    assert {line["method"] for line in held} == {*METHODS, "none"}


def test_an_older_folder_goes_on(tiny, tmp_path, asked):
    """Its lines hold the method's repr alone, and nothing of the question."""
    rows, units = run(tiny, tmp_path), len(asked)
    held = [json.loads(line) for line in (tmp_path / ANSWERS).read_text().splitlines()]
    old = [
        {**{field.name: line[field.name] for field in fields(Key)}, "method": line["identity"]}
        | {"prediction": line["prediction"]}
        for line in held
    ]
    (tmp_path / ANSWERS).write_text("".join(json.dumps(line) + "\n" for line in old))
    assert run(tiny, tmp_path) == rows
    assert len(asked) == units
