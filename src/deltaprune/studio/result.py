"""One question under one setting: the answer, what it cost, how long it took, and what became of each patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from jaxtyping import UInt8

from deltaprune.answer import Answer
from deltaprune.cost import share_of
from deltaprune.cuda_graphs.prefills import WARM_UP
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.prefix import ImagePrefix
from deltaprune.steps import Method, passes_of, seen_by_towers, side_of
from deltaprune.studio.layers import patch_states
from deltaprune.studio.sight import Sight, a_few
from deltaprune.timing import timed
from deltaprune.vlm import VLM

NEW_TOKENS = 16  # most of an answer, as in `ask` and `generate`


@dataclass(frozen=True)
class Result:
    """What one setting gave.

    Attributes:
        method: the setting's text.
        answer: what the model said.
        tokens: visual tokens: as many as the towers gave, then what each stage left.
        after: for each stage, how many layers see all tokens that reach it.
        updated: in how many layers visual rows are updated, and the number of all layers.
        macs_share: the LM prefill's MACs over those without pruning, a fraction.
        ms: milliseconds for `vision`, `prefill` and `decode`, each a median.
        grid: rows and columns of patches that the towers were given.
        states: see `layers.patch_states`.
    """

    method: str
    answer: str
    tokens: tuple[int, ...]
    after: tuple[int, ...]
    updated: tuple[int, int]
    macs_share: float
    ms: Mapping[str, float]
    grid: tuple[int, int]
    states: UInt8[np.ndarray, "K P"]

    @property
    def total_ms(self) -> float:
        """Picture, prompt and answer together."""
        return sum(self.ms.values())


def grid_of(vlm: VLM, method: Method) -> tuple[int, int]:
    """Rows and columns of patches, which all towers share, in the picture that a method shows to them."""
    tower = next(iter(vlm.config.shrunk(side_of(method.checked_steps(vlm.shape))).towers.values()))
    side = tower.image_size // tower.patch_size
    return side, side


def measured(vlm: VLM, processor: Processor, sight: Sight, question: str, text: str, warm: bool) -> Result:
    """Ask one question about a picture under one setting.

    Args:
        vlm, processor: what `load` gave.
        sight: the picture.
        question: not empty.
        text: the setting, as `parse` reads it.
        warm: whether this setting's kernels have run; else it runs once before it is timed.

    Raises:
        UserError: the setting does not fit the model.
        NotFinite: the weights or activations overflowed.
    """
    method = parse(text)
    steps = method.checked_steps(vlm.shape)
    visual, vision_ms = sight.seen(vlm, method)
    inputs = sight.ask(processor, question)
    for _ in range(WARM_UP if vlm.device.type == "cuda" else not warm):
        vlm.start(inputs, method=method, visual=visual)
    answers = a_few(lambda: vlm.answer(inputs, NEW_TOKENS, method=method, visual=visual), _ms_of)
    last, n_layers = answers[-1], vlm.shape.n_layers
    n_visual = seen_by_towers(steps, vlm.shape).n_visual
    ms = {part: median(answer.ms[part] for answer in answers) for part in ("prefill", "decode")}
    return Result(
        method=text,
        answer=processor.decode(last.ids[0]),
        tokens=(n_visual, *(stage.counts[0] for stage in last.kept)),
        after=tuple(stage.after for stage in last.kept),
        updated=(n_layers - len(passes_of(steps)), n_layers),
        macs_share=share_of(vlm.config, method, int(inputs["attention_mask"].sum())),
        ms={"vision": vision_ms, **ms},
        grid=grid_of(vlm, method),
        states=patch_states(steps, last.kept, n_layers, n_visual),
    )


@dataclass(frozen=True)
class Asked:
    """A question that was asked, with and without what the picture's prefix saves.

    Attributes:
        question, method, answer: of this question.
        first: whether the picture was run for it; later questions under the same setting start from its prefix.
        whole_ms: picture, prompt and answer from scratch.
        took_ms: what it took: for the first question all of it, for a later one its own rows and the answer.
    """

    question: str
    method: str
    answer: str
    first: bool
    whole_ms: float
    took_ms: float

    @property
    def saved_ms(self) -> float:
        """What the prefix saved."""
        return self.whole_ms - self.took_ms


@torch.no_grad()
def asked_from(
    vlm: VLM, processor: Processor, sight: Sight, question: str, text: str, prefix: ImagePrefix | None
) -> tuple[Asked, ImagePrefix]:
    """Ask from the picture's prefix, and from scratch beside it, in turns, so that a busy machine slows both.

    Without a prefix the picture is run now, and its prefix comes back as well; takes and raises what `measured` does.
    """
    method, inputs, first = parse(text), sight.ask(processor, question), prefix is None
    visual, vision_ms = sight.seen(vlm, method)
    reading = 0.0
    if prefix is None:
        prefix, reading = timed(lambda: vlm.encode_image(sight.pixels, visual, method), vlm.device)
        reading += vision_ms
    held = prefix

    def both() -> tuple[Answer, Answer]:
        return (
            vlm.answer(inputs, NEW_TOKENS, method=method, visual=visual),
            vlm.answer(inputs, NEW_TOKENS, prefix=held, method=method),
        )

    if first:
        both()  # the first time compiles, or touches memory
    pairs = a_few(both, lambda pair: sum(_ms_of(answer) for answer in pair))
    whole, took = (median(_ms_of(pair[i]) for pair in pairs) for i in (0, 1))
    said = processor.decode(pairs[-1][1].ids[0])
    return Asked(question, text, said, first, vision_ms + whole, reading + took), prefix


def _ms_of(answer: Answer) -> float:
    return sum(answer.ms.values())
