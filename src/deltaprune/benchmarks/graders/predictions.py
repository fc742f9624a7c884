"""Read a file of answers, of any program.

One JSON object a line, or one JSON list of objects, each with an id and an answer:

    {"question_id": 262148000, "answer": "down"}              VQAv2, OK-VQA, TextVQA
    {"question_id": "random/1", "answer": "Yes"}              POPE; of one split alone 1 is enough
    [{"questionId": "201307251", "prediction": "yes"}, ...]   GQA
    {"image": "VizWiz_val_00000000.jpg", "answer": "soup"}    VizWiz
    {"id": "0", "choices": {"True": 0.7, "False": 0.3}}       probabilities; the likeliest choice is the answer

A line of `evaluate --out`'s answers.jsonl also says which method gave the answer, and to which benchmark's question.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deltaprune.benchmarks._files import Entry, read_json, read_json_lines
from deltaprune.errors import UserError

IDS = ("question_id", "questionId", "id", "image")
ANSWERS = ("prediction", "answer", "text")  # where a line has the first two, the other is the right answer


@dataclass(frozen=True)
class Prediction:
    """One line of a file of answers.

    Attributes:
        place: its place in the file, for messages.
        id: the question's id as the file has it.
        text: the answer.
        choices: a probability for each choice, summing to 1; empty where the file has none.
        methods: the names of the method that gave it, as asked for and in full; empty where the file does not say.
        benchmark: name and version, where the file says.
    """

    place: str
    id: str
    text: str
    choices: Mapping[str, float]
    methods: tuple[str, ...] = ()
    benchmark: str | None = None


def read_predictions(file: Path) -> Iterator[Prediction]:
    """The answers in a file, in its order; a byte-order mark, Windows line ends and blank lines are fine.

    Raises:
        UserError: no such file, no UTF-8, no JSON, nothing in it, or an entry without an id or an answer.
    """
    none_yet = True
    for entry in _entries(file):
        none_yet = False
        choices = _choices(entry)
        text = max(choices, key=lambda choice: choices[choice]) if choices else ""
        if not choices or any(name in entry.values for name in ANSWERS):
            text = _find(entry, ANSWERS, "answer")
            if not isinstance(text, str):
                raise UserError(f"{file}, {entry.place}: the answer is {text!r:.60}, but answers are strings.")
        key = _find(entry, IDS, "id")
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise UserError(f"{file}, {entry.place}: the id is {key!r:.60}, but ids are whole numbers or strings.")
        names = (entry.values.get(name) for name in ("method", "identity"))
        methods = tuple(name for name in names if isinstance(name, str))
        benchmark = entry.values.get("benchmark")
        yield Prediction(
            entry.place, str(key), text, choices, methods, benchmark if isinstance(benchmark, str) else None
        )
    if none_yet:
        raise UserError(f"{file} holds no answers: write one JSON object a line, with an id and an answer.")


def _entries(file: Path) -> Iterator[Entry]:
    """The objects of a JSON list or of JSON lines."""
    if not _starts_a_list(file):
        yield from read_json_lines(file)
        return
    for number, values in enumerate(read_json(file, list), 1):
        if not isinstance(values, dict):
            raise UserError(f"{file}, entry {number}, is {values!r:.60}, but each holds an object with id and answer.")
        yield Entry(str(file), f"entry {number}", values)


def _starts_a_list(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            return next((line for line in lines if line.strip()), "").lstrip().startswith("[")
    except OSError:
        return False  # reported by the next reader


def _find(entry: Entry, names: tuple[str, ...], what: str) -> object:
    """The value under the first of `names` that the entry has."""
    for name in names:
        if name in entry.values:
            return entry.values[name]
    listed = f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
    raise UserError(f"{entry.source}, {entry.place}, has no {what}: name it {listed}.")


def _choices(entry: Entry) -> dict[str, float]:
    """The probabilities of an entry, normalised; empty where it has none."""
    held = entry.values.get("choices")
    if held is None or held == {}:
        return {}
    if not isinstance(held, dict) or not all(map(_is_probability, held.values())) or not any(held.values()):
        raise UserError(
            f"{entry.source}, {entry.place}: choices is {held!r:.60}, but it holds a probability for each choice, such "
            'as {"Yes": 0.7, "No": 0.3}.'
        )
    total = sum(held.values())
    return {name: value / total for name, value in held.items()}


def _is_probability(value: object) -> bool:
    """Normalised or not: a number from 0 up."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
