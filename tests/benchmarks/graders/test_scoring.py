"""Files of answers, good and broken, against a toy benchmark of three questions."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from deltaprune.benchmarks import Benchmark, Protocol, Sample
from deltaprune.benchmarks.graders.predictions import read_predictions
from deltaprune.benchmarks.graders.protocols import POPE
from deltaprune.benchmarks.graders.scoring import score
from deltaprune.errors import UserError


@dataclass(frozen=True)
class Toy(Benchmark):
    """Two questions of the random split, one of the popular one."""

    name: ClassVar[str] = "toy"
    version: ClassVar[int] = 3
    split: ClassVar[str] = "test"
    protocols: ClassVar[Mapping[str, Protocol]] = POPE

    def samples(self, split: str, seed: int = 0, limit: int | None = None) -> Iterator[Sample]:
        asked = [("random", 1, "yes"), ("random", 2, "no"), ("popular", 1, "yes")]
        for skill, number, answer in islice(asked, limit):
            if split in ("test", skill):
                yield Sample(f"{skill}/{number}", "1", lambda: Image.new("RGB", (2, 2)), "Is it?", answer, skill)


GOOD = [
    {"question_id": "random/1", "answer": "Yes."},
    {"question_id": "random/2", "answer": "Yes."},
    {"question_id": "popular/1", "answer": "Yes."},
]


def lines(rows: list[dict[str, Any]], end: str = "\n") -> str:
    return "".join(json.dumps(row) + end for row in rows)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.mark.parametrize(
    "text",
    [
        lines(GOOD),
        lines(GOOD[::-1]),
        "\ufeff" + lines(GOOD, "\r\n"),
        "\n" + lines(GOOD, "\n\n") + "   ",
        lines(GOOD).rstrip("\n"),
        json.dumps(GOOD),
        "\ufeff\r\n" + json.dumps(GOOD, indent=2).replace("\n", "\r\n"),
        lines([{"questionId": row["question_id"], "prediction": row["answer"]} for row in GOOD]),
        lines([{"id": row["question_id"], "text": row["answer"], "model": "x"} for row in GOOD]),
    ],
    ids=[
        "lines",
        "any order",
        "BOM and CRLF",
        "blank lines",
        "no last end",
        "list",
        "list, BOM and CRLF",
        "gqa",
        "llava",
    ],
)
def test_every_form_of_the_same_answers(text: str, file: Path) -> None:
    file.write_bytes(text.encode())
    result = score(Toy(), "test", file)
    assert (result.n, result.questions, result.unknown, result.partial) == (3, 3, 0, False)
    assert (result.mean, result.by_skill) == (75, {"random": 50, "popular": 100})
    assert (result.benchmark, result.version, result.protocol, result.checked) == ("toy", 3, "official", True)
    assert result.metrics["random/precision"] == 50
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


def test_one_splits_own_ids(file: Path) -> None:
    """POPE numbers each split's questions anew; of one split alone the number is enough."""
    file.write_text(lines([{"question_id": 1, "answer": "yes"}, {"question_id": 2, "answer": "no"}]))
    assert score(Toy(), "random", file).mean == 100


def test_the_protocol_decides(file: Path) -> None:
    file.write_text(lines(GOOD))
    assert score(Toy(protocol="lmms-eval"), "test", file).mean == 0  # "Yes." is not "yes" there


def test_probabilities(file: Path) -> None:
    """The likeliest choice is the answer; probabilities need not sum to 1; a given answer is kept."""
    rows: list[dict[str, Any]] = [
        {"id": "random/1", "choices": {"Yes": 0.6, "No": 0.2}},
        {"id": "random/2", "choices": {"Yes": 0.1, "No": 0.3}},
        {"id": "popular/1", "choices": {"Yes": 2, "No": 1}, "answer": "No"},
    ]
    file.write_text(lines(rows))
    result = score(Toy(protocol="cobra"), "test", file)
    assert (result.mean, result.metrics["auc_roc"]) == (50, 100)
    read = list(read_predictions(file))
    assert [each.text for each in read] == ["Yes", "No", "No"]
    assert [each.choices["Yes"] for each in read] == pytest.approx([0.75, 0.25, 2 / 3])


def test_a_part_is_graded_only_where_it_is_asked_for_and_labelled(file: Path) -> None:
    file.write_text(lines([GOOD[0], {"question_id": "random/9", "answer": "no"}]))
    result = score(Toy(), "test", file, allow_partial=True)
    assert (result.n, result.questions, result.unknown, result.partial) == (1, 3, 1, True)
    assert (result.mean, result.by_skill) == (100, {"random": 100})


ID, ANSWER = '"question_id": "random/1"', '"answer": "yes"'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "answers.jsonl holds no answers: write one JSON object a line"),
        (" \r\n", "holds no answers"),
        ("[]", "holds no answers"),
        (lines(GOOD) + '{"question_id": ', "answers.jsonl, line 4, is no JSON"),
        (lines(GOOD[:1]) + "7\n", "line 2, is no JSON object"),
        (json.dumps(GOOD)[:-4], "is no JSON"),
        ('[{"id": 1}, 7]', "entry 1, has no answer: name it 'prediction', 'answer' or 'text'."),
        ("[7]", "entry 1, is 7, but each holds an object with id and answer."),
        (f"{{{ANSWER}}}", "line 1, has no id: name it 'question_id', 'questionId', 'id' or 'image'."),
        (f"{{{ID}}}", "line 1, has no answer: name it"),
        (f'{{{ID}, "answer": 3}}', "line 1: the answer is 3, but answers are strings."),
        (f'{{{ID}, "answer": null}}', "the answer is None, but answers are strings."),
        (f'{{"id": 1.5, {ANSWER}}}', "the id is 1.5, but ids are whole numbers or strings."),
        (f'{{"id": true, {ANSWER}}}', "the id is True, but ids are"),
        (f'{{{ID}, "choices": [0.5, 0.5]}}', "choices is [0.5, 0.5], but it holds a probability for each choice"),
        (f'{{{ID}, "choices": {{"Yes": -1, "No": 2}}}}', "holds a probability for each choice"),
        (f'{{{ID}, "choices": {{"Yes": 0, "No": 0}}}}', "holds a probability for each choice"),
        (f'{{{ID}, "choices": {{"Yes": NaN, "No": 1}}}}', "holds a probability for each choice"),
        (lines([*GOOD, GOOD[0]]), "answers question 'random/1' twice, at line 1 and line 4: leave one of them."),
        (lines([*GOOD, GOOD[0] | {"id": "x"}]), "answers question 'random/1' twice"),
        (lines(GOOD[1:]), "leaves questions of toy test unanswered, 1 of 3, the first is 'random/1': answer them"),
        (
            lines([*GOOD, {"id": "random/9", "answer": "no"}]),
            "answers questions that toy test does not have, 1 in all, the first at line 4, 'random/9': remove them",
        ),
        (
            lines([{"id": 77, "answer": "no"}]),
            "answers no question of toy test: its ids are like '77', those of toy test",
        ),
    ],
)
def test_a_broken_file_is_told_in_a_sentence(text: str, sentence: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        score(Toy(), "test", file)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_choices_than_the_protocols_are_refused(file: Path) -> None:
    row = {"id": "random/1", "choices": {"A": 0.5, "B": 0.5}}
    file.write_text(lines([row, *GOOD[1:]]))
    with pytest.raises(UserError, match="the choices are A, B, but toy under protocol cobra has Yes, No"):
        score(Toy(protocol="cobra"), "test", file)


def test_no_text_and_no_file(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        score(Toy(), "test", file)
    with pytest.raises(UserError, match="nowhere"):
        score(Toy(), "test", file.with_name("nowhere.jsonl"))
    with pytest.raises(UserError, match=file.parent.name):
        score(Toy(), "test", file.parent)


def test_nothing_answered_is_told_even_where_a_part_is_allowed(file: Path) -> None:
    file.write_text(lines([{"id": 77, "answer": "no"}]))
    with pytest.raises(UserError, match="answers no question of toy test"):
        score(Toy(), "test", file, allow_partial=True)


def test_a_split_without_questions(file: Path) -> None:
    file.write_text(lines(GOOD))
    with pytest.raises(UserError, match="toy nowhere has no questions"):
        score(Toy(), "nowhere", file, allow_partial=True)
