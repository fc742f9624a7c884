"""The format of the VQA challenge: questions in one file, ten annotators' answers to each in another."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from deltaprune.benchmarks._base import Sample
from deltaprune.benchmarks._files import Entry, listed, read_json
from deltaprune.benchmarks._hub import HubPicture, entries, load_rows
from deltaprune.benchmarks._official import coco_2014
from deltaprune.errors import UserError


def read_vqa(questions: Path, annotations: Path, pictures: Path) -> Iterator[Sample]:
    """Questions joined with their annotations by `question_id`, in the order of the questions; COCO val2014 pictures.

    Raises:
        UserError: anything wrong in a file, or a question without its annotation.
    """
    annotated: dict[str, Entry] = {}
    for entry in _entries(annotations, "annotations"):
        key = entry.id("question_id")
        if key in annotated:
            raise UserError(f"{annotations} annotates question {key!r} twice: download it again.")
        annotated[key] = entry
    for entry in _entries(questions, "questions"):
        key = entry.id("question_id")
        if key not in annotated:
            raise UserError(f"Question {key!r} of {questions} has no annotation in {annotations}: they do not match.")
        image_id = entry.id("image_id")
        skill, answers = annotated[key].text("answer_type"), annotated[key].answers()
        yield answered(entry, answers, key, image_id, coco_2014(pictures, image_id), skill)


def read_vqa_rows(hub: str, split: str, image_key: str) -> Iterator[Sample]:
    """The same from a hub dataset that has question, annotation and picture in one row.

    Args:
        hub, split: which dataset.
        image_key: the column that names the picture.

    Raises:
        UserError: the dataset cannot be read, or lacks a column.
    """
    rows = load_rows(hub, split)
    for index, entry in entries(rows, hub):
        load = HubPicture(rows, index, hub)
        yield answered(
            entry, entry.answers(), entry.id("question_id"), entry.id(image_key), load, entry.text("answer_type")
        )


def answered(
    entry: Entry, answers: tuple[str, ...], id: str, image_id: str, load: Callable[[], Image.Image], skill: str
) -> Sample:
    """A question with several annotators' answers; `answer` is the commonest, of equally common ones the first."""
    commonest = max(answers, key=answers.count)
    return Sample(id, image_id, load, entry.text("question"), commonest, skill, answers)


def _entries(file: Path, key: str) -> Iterator[Entry]:
    return listed(file, read_json(file, dict, shrink=_answer_alone).get(key), key)


def _answer_alone(values: dict[str, Any]) -> Any:
    """An annotator's answer is kept as its text; VQAv2 has two million of them."""
    return values["answer"] if "answer_confidence" in values and "answer" in values else values
