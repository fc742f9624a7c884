"""Ask questions about one picture, unpruned and under each method: answers, tokens kept, cost and time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deltaprune.cost import share_of
from deltaprune.cuda_graphs.prefills import WARM_UP
from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.methods import parse
from deltaprune.methods.none import NoPruning
from deltaprune.mllm.pictures import Picture, read_picture
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.overlay import as_png, overlay
from deltaprune.steps import Method, side_of
from deltaprune.timing import timed
from deltaprune.vlm import VLM

REPEATS, BUDGET = 5, 500  # a time is the median of up to 5 runs, fewer if they take more than 500 ms together
UNWRITTEN = ("kept_origin", "grid", "picture", "more")  # fields of a row that are not in its JSON
NO_GRID = (
    "The visual tokens of this picture are not a grid over it, because the model's processor cuts it into tiles: leave "
    "out the overlay."
)

T = TypeVar("T")


@dataclass(frozen=True)
class AskRow:
    """One answer. In a notebook it is displayed as the picture with the kept patches.

    Attributes:
        question: as given.
        method: as given if that was a text, else its `repr`.
        answer: the model's answer.
        kept: visual tokens after each stage; None without stages, when nothing was pruned.
        macs_share: the LM prefill's MACs for this prompt over those without pruning, a fraction.
        ms: milliseconds for `vision` (towers and projector, once for all rows), `prefill` (image and question) and
            `decode` (the whole answer); compilation is not in them, and no row reuses another's prefill.
        after: for each stage, how many layers see all tokens that reach it.
        text_tokens: text tokens of the prompt, template included.
        new_tokens: tokens of the answer, end-of-text included.
        kept_origin: for each stage, the indices of the visual tokens it left, row by row; not part of the JSON row.
        grid: rows and columns of patches, None if the visual tokens are not a grid; not part of the JSON row.
        picture: the picture asked about, upright RGB; not part of the JSON row.
        more: further JSON fields for a transformers model: `visual_tokens`, and `plan` if it was not calibrated.
    """

    question: str
    method: str
    answer: str
    kept: list[int] | None
    macs_share: float
    ms: dict[str, float]
    after: list[int]
    text_tokens: int
    new_tokens: int
    kept_origin: tuple[np.ndarray, ...] = field(repr=False, compare=False)
    grid: tuple[int, int] | None = field(repr=False, compare=False)
    picture: Image.Image = field(repr=False, compare=False)
    more: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON row."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in UNWRITTEN}
        return {**row, **self.more}

    def overlay(self, image: Picture | None = None, title: str | None = None) -> Image.Image:
        """The picture with the patches that were dropped greyed and struck through, see `deltaprune.analysis.overlay`.

        Args:
            image: drawn on instead of the picture asked about.
            title: the caption's first line; None names method and answer.

        Raises:
            UserError: the visual tokens are no grid over the picture.
        """
        if self.grid is None:
            raise UserError(NO_GRID)
        title = f"{self.method}: {self.answer}" if title is None else title
        return overlay(
            self.picture if image is None else read_picture(image), self.kept_origin, self.grid, self.after, title
        )

    def _repr_png_(self) -> bytes:
        """The overlay, for notebooks."""
        return as_png(self.overlay())


class Asked(NamedTuple):
    """One question under one method, written as `label`."""

    question: str
    label: str
    method: Method
    picture: Image.Image


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
    say = on_step or (lambda _: None)
    runs = _runs([method] if isinstance(method, Method | str) else method)
    if isinstance(vlm, Hosted):
        from deltaprune.ask_hosted import hosted_rows

        check_questions(questions)
        return hosted_rows(vlm, cast(Any, processor), read_picture(image), questions, runs, max_new_tokens, say)
    for chosen in runs.values():
        chosen.checked_steps(vlm.shape)
    check_questions(questions)
    picture = read_picture(image)
    pixels = processor.encode_images([picture]).to(vlm.device)
    say("warming up (the first run on a machine compiles the kernels)")
    sides = {label: side_of(chosen.checked_steps(vlm.shape)) for label, chosen in runs.items()}
    first: dict[int | None, Method] = {}  # a method for each size of picture
    for label, chosen in runs.items():
        visual = _see(vlm, pixels, first.setdefault(sides[label], chosen))
        vlm.answer(_text(processor, questions[0], pixels), min(2, max_new_tokens), method=chosen, visual=visual)
    seen = {side: _timed_see(vlm, pixels, chosen) for side, chosen in first.items()}
    rows = []
    for i, question in enumerate(questions):
        say(f"answering question {i + 1} of {len(questions)}")
        inputs = _text(processor, question, pixels)
        for label, chosen in runs.items():
            visual, vision_ms = seen[sides[label]]
            asked = Asked(question, label, chosen, picture)
            rows.append(_row(vlm, processor, inputs, visual, asked, vision_ms, max_new_tokens))
    return rows


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


def _row(
    vlm: VLM,
    processor: Processor,
    inputs: Inputs,
    visual: Tensor,
    asked: Asked,
    vision_ms: float,
    max_new_tokens: int,
) -> AskRow:
    """Measure one question under one method."""
    method = asked.method
    for _ in range(WARM_UP if vlm.device.type == "cuda" else 0):  # this length's CUDA graph is captured
        vlm.start(inputs, method=method, visual=visual)
    answers = repeated(
        lambda: vlm.answer(inputs, max_new_tokens, method=method, visual=visual), lambda answer: sum(answer.ms.values())
    )
    last, text_tokens = answers[-1], int(inputs["attention_mask"].sum())
    ms = {part: median(answer.ms[part] for answer in answers) for part in ("prefill", "decode")}
    return AskRow(
        question=asked.question,
        method=asked.label,
        answer=processor.decode(last.ids[0]),
        kept=[stage.counts[0] for stage in last.kept] or None,
        macs_share=share_of(vlm.config, method, text_tokens),
        ms={"vision": vision_ms, **ms},
        after=[stage.after for stage in last.kept],
        text_tokens=text_tokens,
        new_tokens=last.ids.shape[1],
        kept_origin=tuple(stage.origin[0].cpu().numpy() for stage in last.kept),
        grid=vlm.config.shrunk(side_of(method.checked_steps(vlm.shape))).grid,
        picture=asked.picture,
    )


def _text(processor: Processor, question: str, pixels: Inputs) -> Inputs:
    """One question about the one image, on the image's device."""
    text = processor.encode_text([question])
    image_key = pixels["image_key"]
    return Inputs(**text, image_index=torch.zeros(1, dtype=torch.int64), image_key=image_key).to(image_key.device)


def _see(vlm: VLM, pixels: Inputs, method: Method) -> Tensor:
    visual = vlm.see(pixels, method)
    assert visual is not None
    return visual


def _timed_see(vlm: VLM, pixels: Inputs, method: Method) -> tuple[Tensor, float]:
    """The visual tokens and the median of the milliseconds they take."""
    seen = repeated(lambda: timed(lambda: _see(vlm, pixels, method), vlm.device), lambda each: each[1])
    return seen[0][0], median(ms for _, ms in seen)


def repeated(run: Callable[[], T], took: Callable[[T], float]) -> list[T]:
    """The results of up to `REPEATS` runs, fewer if together they take more than `BUDGET` milliseconds."""
    results: list[T] = []
    while len(results) < REPEATS and sum(map(took, results)) <= BUDGET:
        results.append(run())
    return results
