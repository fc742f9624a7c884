"""`ask`: the rows of every question under every method, on a model of either kind."""

from collections.abc import Callable, Sequence
from typing import Any

from deltaprune.ask.hosted import hosted_rows
from deltaprune.ask.own import own_rows
from deltaprune.ask.row import AskRow
from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.methods import parse
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.pictures import Picture, read_picture
from deltaprune.mllm.processor import Processor
from deltaprune.steps import Method
from deltaprune.vlm import VLM


def ask(
    vlm: VLM,
    processor: Processor,
    image: Picture,
    questions: Sequence[str],
    method: Method | str | Sequence[Method | str],
    max_new_tokens: int = 16,
    on_step: Callable[[str], None] | None = None,
) -> list[AskRow]:
    """For each question a row of `none`, then one of each other method, in the order given.

    Everything runs once before anything is timed, so that compilation and first memory accesses are not counted.

    Args:
        vlm, processor: from `load`, also for a transformers model.
        image: the picture: a path, a PIL image, an array or a tensor.
        questions: at least one.
        method: an object, or a text such as "dtp:keep=0.5"; or several of them.
        max_new_tokens: upper bound of an answer's length.
        on_step: called with a description of the current step, to show progress.

    Raises:
        UserError: no question or an empty one, an unusable image, or a method that does not fit the model.
    """
    runs = _runs([method] if isinstance(method, Method | str) else method)
    if not isinstance(vlm, Hosted):
        for chosen in runs.values():
            chosen.checked_steps(vlm.shape)
    check_questions(questions)
    rows: Any = hosted_rows if isinstance(vlm, Hosted) else own_rows
    return rows(vlm, processor, read_picture(image), questions, runs, max_new_tokens, on_step or (lambda _: None))


def check_questions(questions: Sequence[str]) -> None:
    """At least one question, each of them text with something in it, else a `UserError`."""
    example = "such as 'How many red circles are there?'"
    if isinstance(questions, str):
        raise UserError("questions is one text: give a list of questions, [question] for a single one.")
    if not questions:
        raise UserError(f"There is no question: ask at least one, {example}.")
    for i, question in enumerate(questions):
        if not question.strip():
            raise UserError(f"Question {i + 1} is empty: ask something, {example}.")
        if any("\ud800" <= letter <= "\udfff" for letter in question):
            raise UserError(f"Question {i + 1} is not valid UTF-8 text: check the encoding of your terminal or script.")


def _runs(methods: Sequence[Method | str]) -> dict[str, Method]:
    """Label -> method: `none` first, then each of the others once."""
    runs: dict[str, Method] = {"none": NoPruning()}
    for method in methods:
        label, chosen = (method, parse(method)) if isinstance(method, str) else (repr(method), method)
        if chosen not in runs.values():
            runs[label] = chosen
    return runs
