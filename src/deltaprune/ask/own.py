"""`ask` on a `VLM`: the picture is encoded once for all rows, anew only for a method that shrinks it."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from PIL.Image import Image
from torch import Tensor

from deltaprune.ask.repeated import repeated
from deltaprune.ask.row import Asked, AskRow
from deltaprune.cost import share_of
from deltaprune.cuda_graphs.prefills import WARM_UP
from deltaprune.mllm.processor import Inputs, Processor
from deltaprune.steps import Method, side_of
from deltaprune.timing import timed
from deltaprune.vlm import VLM


def own_rows(
    vlm: VLM,
    processor: Processor,
    picture: Image,
    questions: Sequence[str],
    runs: Mapping[str, Method],
    max_new_tokens: int,
    say: Callable[[str], None],
) -> list[AskRow]:
    """A row for each question and method; see `ask`."""
    pixels = processor.encode_images([picture]).to(vlm.device)
    say("warming up (the first run on a machine compiles the kernels)")
    sides = {label: side_of(method.checked_steps(vlm.shape)) for label, method in runs.items()}
    first: dict[int | None, Method] = {}  # a method for each size of picture
    for label, method in runs.items():
        visual = _see(vlm, pixels, first.setdefault(sides[label], method))
        vlm.answer(_text(processor, questions[0], pixels), min(2, max_new_tokens), method=method, visual=visual)
    seen = {side: _timed_see(vlm, pixels, method) for side, method in first.items()}
    rows = []
    for i, question in enumerate(questions):
        say(f"answering question {i + 1} of {len(questions)}")
        inputs = _text(processor, question, pixels)
        for label, method in runs.items():
            visual, vision_ms = seen[sides[label]]
            asked = Asked(question, label, method, picture)
            rows.append(_row(vlm, processor, inputs, visual, asked, vision_ms, max_new_tokens))
    return rows


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
