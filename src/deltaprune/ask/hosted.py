"""`ask` on a transformers model, whose `generate` encodes the picture with every question."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from PIL.Image import Image
from torch import Tensor

from deltaprune.ask.repeated import repeated
from deltaprune.ask.row import Asked, AskRow
from deltaprune.cost import share_of
from deltaprune.hosted.clock import PARTS
from deltaprune.hosted.config import about_images
from deltaprune.hosted.grid import token_grid
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.inplace.attach import check_runnable
from deltaprune.inplace.target import Target
from deltaprune.mllm.processor import Inputs
from deltaprune.steps import Method


def hosted_rows(
    vlm: Hosted,
    processor: HostedProcessor,
    picture: Image,
    questions: Sequence[str],
    runs: Mapping[str, Method],
    max_new_tokens: int,
    say: Callable[[str], None],
) -> list[AskRow]:
    """A row for each question and method; see `ask`. A picture's size decides how many visual tokens it has."""
    say("warming up")
    first = processor(images=picture, text=questions[0])
    shape = vlm.config.with_visual(int(vlm.is_visual(first["input_ids"]).sum())).shape
    for method in runs.values():
        check_runnable(Target(vlm.model), method.checked_steps(shape))
    for method in runs.values():
        vlm.answer(first, min(2, max_new_tokens), method=method)
    rows = []
    for i, question in enumerate(questions):
        say(f"answering question {i + 1} of {len(questions)}")
        inputs = processor(images=picture, text=question)
        asked = (Asked(question, *run, picture) for run in runs.items())
        rows += [_row(vlm, processor, inputs, each, max_new_tokens) for each in asked]
    return rows


def _row(vlm: Hosted, processor: HostedProcessor, inputs: Inputs, asked: Asked, max_new_tokens: int) -> AskRow:
    """Measure one question under one method."""
    method = asked.method
    answers = repeated(
        lambda: vlm.answer(inputs, max_new_tokens, method=method), lambda answer: sum(answer.ms.values())
    )
    last = answers[-1]
    visual = int(vlm.is_visual(inputs["input_ids"]).sum())
    text = inputs["input_ids"].shape[1] - visual
    config = vlm.config.with_visual(visual)
    return AskRow(
        question=asked.question,
        method=asked.label,
        answer=processor.decode(last.ids[0]),
        kept=[stage.counts[0] for stage in last.kept] or None,
        macs_share=share_of(config, method, text),
        ms={part: median(answer.ms[part] for answer in answers) for part in PARTS},
        after=[stage.after for stage in last.kept],
        text_tokens=text,
        new_tokens=last.ids.shape[1],
        kept_origin=tuple(places(vlm, inputs, stage.origin[0]).numpy() for stage in last.kept),
        grid=token_grid(inputs, visual),
        picture=asked.picture,
        more=about_images(config, [method]),
    )


def places(vlm: Hosted, inputs: Inputs, origin: Tensor) -> Tensor:
    """Columns of the prompt -> their indices among its visual tokens, on the CPU."""
    visual = vlm.is_visual(inputs["input_ids"])[0].cumsum(0) - 1
    return visual[origin.cpu()]
