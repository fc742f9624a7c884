"""`deltaprune score` on small files in the official formats."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def vqav2(tmp_path: Path) -> Path:
    """Two questions of VQAv2, no pictures; ten annotators said 2, four of ten "two"."""
    panels = [["2"] * 10, ["two"] * 4 + ["3"] * 6]
    questions = [{"image_id": 1, "question": "How many?", "question_id": n} for n in (10, 11)]
    annotations = [
        {
            "question_id": n,
            "image_id": 1,
            "question_type": "how many",
            "answer_type": "number",
            "multiple_choice_answer": said[0],
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": i} for i, answer in enumerate(said, 1)
            ],
        }
        for n, said in zip((10, 11), panels, strict=True)
    ]
    data = tmp_path / "vqav2"
    data.mkdir()
    names = {"questions": questions, "annotations": annotations}
    for name, content in names.items():
        start = "v2_OpenEnded_mscoco" if name == "questions" else "v2_mscoco"
        (data / f"{start}_val2014_{name}.json").write_text(json.dumps({name: content}))
    return data


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    file = tmp_path / "answers.json"
    file.write_text(json.dumps([{"question_id": 10, "answer": "2"}, {"question_id": 11, "answer": "Two."}]))
    return file


def test_a_document(cli: Callable[..., Any], vqav2: Path, answers: Path) -> None:
    """Both score 1; the two questions are not the whole of VQAv2, so the number is partial."""
    rows = cli("score", answers, "--benchmark", "vqav2", "--data", vqav2, "--allow-partial", "--json").rows
    expected = {
        "benchmark": "vqav2",
        "split": "val2014",
        "protocol": "official",
        "n": 2,
        "questions": 2,
        "partial": True,
    }
    assert {name: rows[name] for name in expected} == expected
    assert (rows["mean"], rows["by_skill"], rows["unknown"]) == (100, {"number": 100}, 0)


@pytest.mark.parametrize(
    ("protocol", "mean"),
    [
        ("official", 100),  # the second panel differs, so both sides are normalised
        ("cobra", 50),  # "two" of the annotators stays "two" and is not "2"
        ("lmms-eval", 100),
        ("robomamba", 100),
    ],
)
def test_the_protocols_differ(cli: Callable[..., Any], vqav2: Path, answers: Path, protocol: str, mean: float) -> None:
    argv = ("--benchmark", "vqav2", "--data", vqav2, "--allow-partial", "--protocol", protocol, "--json")
    assert cli("score", answers, *argv).rows["mean"] == mean


def test_a_table(cli: Callable[..., Any], vqav2: Path, answers: Path) -> None:
    ran = cli("score", answers, "--benchmark", "vqav2", "--data", vqav2, "--allow-partial")
    assert (ran.code, ran.err) == (0, "")
    said = " ".join(ran.out.split())
    assert "mean 100.00" in said
    assert "number 100.00" in said
    assert "vqav2 val2014, protocol official" in said
    assert "PARTIAL: 2 questions (the files hold 2), so this is not the benchmark's number" in said
    assert "rules: GT-Vision-Lab/VQA a013f00 vqaEval.py" in said
    assert "not checked against that scorer's own output" in said


def test_answers_that_were_passed_over_are_told(cli: Callable[..., Any], vqav2: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    file.write_text('{"question_id": 10, "answer": "2"}\r\n{"question_id": 99, "answer": "2"}\r\n')
    argv = ("score", file, "--benchmark", "vqav2", "--data", vqav2)
    assert "passed over: 1" in " ".join(cli(*argv, "--allow-partial").out.split())


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("score", "Missing argument 'PREDICTIONS': the form is deltaprune score PREDICTIONS [OPTIONS]"),
        ("score ANSWERS", "Missing option '--benchmark'"),
        ("score ANSWERS --benchmark vqa", "There is no benchmark 'vqa': did you mean 'vqav2'?"),
        ("score ANSWERS --benchmark vqav2", "vqav2 is given neither data nor hub"),
        ("score ANSWERS --benchmark vqav2 --data nowhere", "data='nowhere' does not exist"),
        ("score ANSWERS --benchmark vqav2 --data DATA", "vqav2 val2014 has 214,354 questions"),
        ("score ANSWERS --benchmark vqav2 --data DATA --protocol cobr", "did you mean 'cobra'?"),
        ("score ANSWERS --benchmark vqav2 --data DATA --split val", "vqav2 has no split 'val'"),
        ("score DATA --benchmark vqav2 --data DATA --allow-partial", "DATA"),
        ("score nowhere.json --benchmark vqav2 --data DATA --allow-partial", "nowhere.json"),
        ("score ANSWERS --benchmark scenes", "answers no question of scenes"),
        ("score ANSWERS --benchmark scenes --data DATA", "The benchmark 'scenes' reads no files: leave out --data."),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    argv: str, sentence: str, cli: Callable[..., Any], vqav2: Path, answers: Path
) -> None:
    texts = {"ANSWERS": str(answers), "DATA": str(vqav2)}
    ran = cli(*(texts.get(word, word) for word in argv.split()))
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert texts.get(sentence, sentence) in ran.err


def test_pope_and_gqa_in_their_own_formats(cli: Callable[..., Any], tmp_path: Path) -> None:
    """POPE's questions are JSON lines, one file for each split; GQA's a JSON object."""
    for split in ("random", "popular", "adversarial"):
        asked = {"question_id": 1, "image": "COCO_val2014_000000000001.jpg", "text": "Is it?", "label": "yes"}
        (tmp_path / f"coco_pope_{split}.json").write_text(json.dumps(asked) + "\n")
    said = tmp_path / "pope.jsonl"
    said.write_text('{"question_id": "random/1", "answer": "Yes"}\n{"question_id": "popular/1", "answer": "No."}\n')
    pope = cli("score", said, "--benchmark", "pope", "--data", tmp_path, "--allow-partial", "--json").rows
    assert (pope["mean"], pope["by_skill"], pope["n"]) == (50, {"random": 100, "popular": 0}, 2)
    table = cli("score", said, "--benchmark", "pope", "--data", tmp_path, "--allow-partial").out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in table if line.strip()}
    assert rows["random"] == ["100.00"] * 5  # score, precision, recall, f1, yes_ratio
    assert rows["popular"] == ["0.00"] * 5
    assert rows["mean"] == ["50.00"] * 5

    entry = {"imageId": "n1", "question": "Is it?", "answer": "yes", "types": {"structural": "verify"}}
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps({"201307251": entry}))
    said.write_text(json.dumps([{"questionId": "201307251", "prediction": "Yes."}]))
    gqa = cli("score", said, "--benchmark", "gqa", "--data", tmp_path, "--allow-partial", "--json").rows
    assert (gqa["mean"], gqa["metrics"]) == (100, {"binary": 100})


def test_textvqa_needs_neither_pictures_nor_ocr_tokens(cli: Callable[..., Any], tmp_path: Path) -> None:
    entry = {"question_id": 34602, "image_id": "0054c91397f2fe05", "question": "what brand?", "answers": ["nokia"] * 10}
    (tmp_path / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": [entry]}))
    said = tmp_path / "said.jsonl"
    said.write_text('{"question_id": 34602, "answer": "Nokia."}\n')
    rows = cli("score", said, "--benchmark", "textvqa", "--data", tmp_path, "--allow-partial", "--json").rows
    assert (rows["mean"], rows["n"]) == (100, 1)


def test_vizwiz_by_the_judge_that_reads_confidences(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Nine sure and one unsure said soup: without the sure ones one is left, 1/3; without the other nine are, 1."""
    sure = [{"answer": "soup", "answer_confidence": "yes"}] * 9 + [{"answer": "soup", "answer_confidence": "maybe"}]
    entry = {"image": "VizWiz_val_00000000.jpg", "question": "What?", "answers": sure, "answer_type": "other"}
    (tmp_path / "val.json").write_text(json.dumps([entry | {"answerable": 1}]))
    said = tmp_path / "said.json"
    said.write_text(json.dumps([{"image": "VizWiz_val_00000000.jpg", "answer": "soup"}]))
    argv = ("score", said, "--benchmark", "vizwiz", "--data", tmp_path, "--allow-partial", "--json")
    assert cli(*argv, "--protocol", "robomamba").rows["mean"] == pytest.approx(100 * (9 / 3 + 1) / 10)
    assert cli(*argv).rows["mean"] == 100
