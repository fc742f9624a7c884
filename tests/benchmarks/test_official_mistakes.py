"""Broken official files: each mistake ends in one sentence that names the file and the place."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import LINES, NAMES, QUESTIONS, dump, opened, refusal, vqa_questions, written
from PIL import Image

from deltaprune.benchmarks import registry
from deltaprune.errors import UserError


def edit(name: str, folder: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Apply `change` to the entries of a benchmark's question file."""
    file = folder / QUESTIONS[name]
    if name in LINES:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        change(rows)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    content = json.loads(file.read_text())
    holder = content if name in ("vizwiz", "gqa") else content.get("questions", content.get("data"))
    change(list(holder.values()) if name == "gqa" else holder)
    dump(file, content)


@pytest.mark.parametrize("name", NAMES)
def test_bad_json_names_the_file_and_the_line(name, tmp_path):
    written(name, tmp_path)
    file = tmp_path / QUESTIONS[name]
    file.write_text(file.read_text().rstrip()[:-4])
    said = refusal(name, tmp_path)
    line = 6 if name in LINES else 1
    assert re.search(f"{re.escape(str(file))}, line {line}[, ].*is no JSON", said)


@pytest.mark.parametrize("name", NAMES)
def test_no_utf_8(name, tmp_path):
    written(name, tmp_path)
    file = tmp_path / QUESTIONS[name]
    file.write_bytes(file.read_bytes()[:20] + b"\xff\xfe" + file.read_bytes()[20:])
    assert f"{file} is not UTF-8 text (byte 20)" in refusal(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_another_json_file(name, tmp_path):
    written(name, tmp_path)
    file = tmp_path / QUESTIONS[name]
    file.write_text("[[1]]\n" if name not in ("vizwiz",) else "{}")
    assert re.search(f"{re.escape(str(file))}(, line 1, is no JSON object| holds an?)", refusal(name, tmp_path))


@pytest.mark.parametrize("name", ["vqav2", "okvqa", "textvqa"])
def test_a_json_file_without_the_list(name, tmp_path):
    written(name, tmp_path)
    file = tmp_path / QUESTIONS[name]
    file.write_text('{"info": {}}')
    assert f"{file} has no list" in refusal(name, tmp_path)


@pytest.mark.parametrize("name", ["vqav2", "textvqa", "vizwiz", "gqa"])
def test_an_entry_that_is_no_object(name, tmp_path):
    written(name, tmp_path)
    file = tmp_path / QUESTIONS[name]
    content = {"gqa": {"201": 5}, "vizwiz": [5]}.get(name, {"questions": [5], "data": [5]})
    dump(file, content)
    said = refusal(name, tmp_path, **{"ocr": False} if name == "textvqa" else {})
    assert str(file) in said
    assert "is not an object" in said


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gqa", "vsr")])
def test_ids_that_stand_twice(name, tmp_path):
    written(name, tmp_path)
    key = "image" if name == "vizwiz" else "question_id"
    edit(name, tmp_path, lambda rows: rows[4].update({key: rows[1][key]}))
    said = refusal(name, tmp_path)
    assert re.search("Question .* occurs twice in", said)
    assert str(tmp_path) in said


def test_ids_that_stand_twice_in_gqas_object(tmp_path):
    written("gqa", tmp_path)
    file = tmp_path / QUESTIONS["gqa"]
    file.write_text(file.read_text().replace('"204"', '"201"'))
    assert f"{file} has '201' twice" in refusal("gqa", tmp_path)


@pytest.mark.parametrize("name", ["vqav2", "okvqa"])
def test_a_missing_annotation_names_the_question(name, tmp_path):
    written(name, tmp_path)
    (file,) = tmp_path.glob("*annotations.json")
    content = json.loads(file.read_text())
    content["annotations"] = [row for row in content["annotations"] if row["question_id"] != 25001]
    dump(file, content)
    assert re.search(f"Question '25001' of .* has no annotation in {re.escape(str(file))}", refusal(name, tmp_path))
    content["annotations"].append(content["annotations"][0])
    dump(file, content)
    assert "annotates question '30005' twice" in refusal(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("gqa", "imageId"),
        ("gqa", "types"),
        ("vqav2", "image_id"),
        ("okvqa", "question"),
        ("textvqa", "answers"),
        ("pope", "label"),
        ("vsr", "relation"),
        ("vizwiz", "answer_type"),
    ],
)
def test_an_entry_that_lacks_a_value(name, key, tmp_path):
    written(name, tmp_path)
    edit(name, tmp_path, lambda rows: rows[2].pop(key))
    said = refusal(name, tmp_path)
    assert str(tmp_path / QUESTIONS[name]) in said
    assert re.search(f"(question|line|number) .*has no '{key}'", said)


@pytest.mark.parametrize(
    ("name", "change", "wanted"),
    [
        ("gqa", {"question": 5}, "'question' is a string, not 5"),
        ("gqa", {"types": "query"}, "'types' is an object, not 'query'"),
        ("vqav2", {"question_id": None}, "'question_id' is a number or a string, not None"),
        ("vqav2", {"image_id": "n7"}, "'n7' is no COCO image id"),
        ("textvqa", {"answers": ["a", None]}, "'answers' is a list of strings"),
        ("textvqa", {"answers": "stop"}, "'answers' is a list of strings, not 'stop'"),
        ("vizwiz", {"answers": [{"said": "a"}]}, "'answers' is a list of strings"),
        ("vizwiz", {"answers": []}, "has no answers: take a split whose answers are published"),
        ("pope", {"label": "maybe"}, "the label is yes or no, not 'maybe'"),
        ("vsr", {"label": 2}, "the label is 0 or 1, not '2'"),
    ],
)
def test_a_value_of_the_wrong_kind(name, change, wanted, tmp_path):
    written(name, tmp_path)
    edit(name, tmp_path, lambda rows: rows[2].update(change))
    assert wanted in refusal(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_picture_is_named_when_it_is_asked_for(name, tmp_path):
    benchmark = written(name, tmp_path)
    sample, *_, last = benchmark.samples(benchmark.split)
    first = Path(*sample.load)
    first.unlink()
    with pytest.raises(UserError, match=f"There is no picture '{re.escape(str(first))}'"):
        sample.load()
    assert last.image.size == (8, 6)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "folder"])
@pytest.mark.parametrize("name", ["gqa", "vizwiz"])
def test_a_broken_picture_is_named_and_never_blank(name, damage, tmp_path):
    benchmark = written(name, tmp_path)
    sample = next(benchmark.samples(benchmark.split))
    first = Path(*sample.load)
    Image.effect_noise((64, 64), 80).convert("RGB").save(first)
    raw = first.read_bytes()
    if damage == "folder":
        first.unlink()
        first.mkdir()
    else:
        first.write_bytes({"cut": raw[: len(raw) // 2], "empty": b"", "text": b"<html>404</html>"}[damage])
    with pytest.raises(UserError, match=r"no picture|is damaged|is empty|is not an image") as caught:
        sample.load()
    assert str(first) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ocr_tokens_of_other_questions(tmp_path):
    written("textvqa", tmp_path)
    file = tmp_path / "llava_textvqa_val_v051_ocr.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    said = refusal("textvqa", tmp_path)
    assert f"{file}, line 1, asks 'what is in corner 1?', not 'what is in corner 0?': the order differs" in said
    file.write_text("\n".join(lines[:5]))
    assert re.search(f"{re.escape(str(file))} has 5 questions and .* 6", refusal("textvqa", tmp_path))
    file.write_text("\n".join(line.replace("Reference OCR token", "Hint") for line in lines))
    assert "has no 'Reference OCR token:' at all" in refusal("textvqa", tmp_path)


def test_an_ocr_line_without_tokens_is_a_question_without_them(tmp_path):
    written("textvqa", tmp_path)
    file = tmp_path / "llava_textvqa_val_v051_ocr.jsonl"
    file.write_text(file.read_text().replace("\\nReference OCR token: STOP, A,B, 50%", ""))
    assert next(opened("textvqa", tmp_path).samples("val")).context == ()


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_not_there(name, tmp_path):
    written(name, tmp_path)
    (tmp_path / QUESTIONS[name]).rename(tmp_path / "away")
    said = refusal(name, tmp_path)
    assert f"There is no '{tmp_path / QUESTIONS[name]}'" in said
    assert registry[name].layout in said
    (tmp_path / "away").rename(tmp_path / QUESTIONS[name])
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    folder.rename(tmp_path / "away")
    said = refusal(name, tmp_path)
    assert f"There is no folder '{folder}'" in said
    assert "images=DIR" in said
    assert "images='nowhere' does not exist" in refusal(name, tmp_path, images="nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_a_question_file_that_cannot_be_read(name, tmp_path, monkeypatch):
    written(name, tmp_path)

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    assert "cannot be read (Permission denied)" in refusal(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_neither_data_nor_hub_says_what_to_download(name):
    benchmark = registry[name]()
    with pytest.raises(UserError) as caught:
        benchmark.samples(benchmark.split)
    said = str(caught.value)
    assert said.startswith(f"{name} is given neither data nor hub: give data=DIR (--data DIR), a folder with ")
    assert QUESTIONS[name] in said
    assert benchmark.hub_ids[0] in said


@pytest.mark.parametrize("name", NAMES)
def test_both_data_and_hub(name):
    with pytest.raises(UserError, match=f"{name} is given both data='here' and hub='there': choose one."):
        registry[name](data="here", hub="there")


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_split(name, tmp_path):
    written(name, tmp_path)
    split = registry[name].split
    said = refusal(name, tmp_path, split[:-1] + "x")
    assert f"{name} has no split" in said
    assert f"did you mean '{split}'?" in said


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_protocol(name):
    with pytest.raises(UserError, match=f"{name} has no protocol 'offical': did you mean 'official'?"):
        registry[name](protocol="offical")


def test_a_data_folder_that_is_none(tmp_path):
    file = tmp_path / "questions.json"
    file.touch()
    assert f"data='{file}' is a file: give the folder." in refusal("gqa", file)
    assert "does not exist" in refusal("gqa", tmp_path / "nowhere")


def test_every_fixture_is_of_a_registered_benchmark():
    assert set(NAMES) <= set(registry.names())
    assert len({row["question_id"] for row in vqa_questions()}) == 6
