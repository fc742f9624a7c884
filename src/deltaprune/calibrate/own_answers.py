"""The model's own answers to some questions, and how far a schedule of layers moves them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.analysis.drift import jensen_shannon
from deltaprune.errors import UserError
from deltaprune.generate import NonFiniteLogits, overflowed
from deltaprune.kernels import without_autocast
from deltaprune.mean_states import MeanStates
from deltaprune.plan import How
from deltaprune.protocols import Block, Model, State
from deltaprune.pruner import Pruner, with_mean
from deltaprune.rows import Rows
from deltaprune.steps import Stage
from deltaprune.vlm import VLM
from deltaprune.walk import walk, walk_through

Flow = tuple[Rows, Rows]  # the images' rows and the questions' rows


@dataclass(frozen=True)
class Lesson:
    """Some pictures, all questions about them, and the model's own answers.

    Attributes:
        image: one sample per picture, its visual rows.
        text: one sample per question, its prompt and answer but for the answer's last token.
        picture: the picture of each question.
        answers: the rows of `text` whose next token belongs to the answer, question after question.
        counts: how many of them each question has.
        log_p: their next token's log-probabilities without any change.
    """

    image: Rows
    text: Rows
    picture: Int[Tensor, "Q"]
    answers: Int[Tensor, "A"]
    counts: tuple[int, ...]
    log_p: Float[Tensor, "A V"]


@torch.no_grad()
@without_autocast
def lesson(vlm: VLM, inputs: dict[str, Tensor], max_new_tokens: int = 16) -> Lesson:
    """The model's own answers to some questions, and what it takes to compare with them.

    Args:
        vlm: the model; its active method is ignored.
        inputs: processor output for some pictures and all questions about them, with `image_index`.
        max_new_tokens: upper bound of an answer's length.

    Raises:
        UserError: no image.
    """
    visual = _see(vlm, inputs)
    ids = vlm.answer(inputs, max_new_tokens, method="none", visual=visual).ids
    lm, empty = vlm.model.lm, visual.new_zeros(0, visual.shape[-1])
    prompts, texts, counts = vlm.pack({k: inputs[k] for k in ("input_ids", "attention_mask")}), [], []
    for (a, b), answer in zip(prompts.spans, ids, strict=True):
        ends = (answer == vlm.eos_id).nonzero()
        said = answer[: int(ends[0, 0]) + 1] if len(ends) else answer
        texts.append(torch.cat([prompts.x[a:b], lm.embed(said[:-1])]))
        counts.append(len(said))
    text = Rows.pack([empty] * len(texts), texts)
    answers = torch.cat([torch.arange(end - n, end) for (_, end), n in zip(text.spans, counts, strict=True)])
    picture = inputs["image_index"].to(visual.device)
    made = Lesson(
        image=Rows.pack(list(visual), [empty] * len(visual)),
        text=text,
        picture=picture,
        answers=answers.to(visual.device),
        counts=tuple(counts),
        log_p=visual.new_zeros(sum(counts), 0),
    )
    *_, last = flows(lm, made, {})
    return replace(made, log_p=log_p(lm, made, last))


def image_rows(vlm: VLM, inputs: Mapping[str, Tensor]) -> Rows:
    """One sample per picture, its visual rows.

    Raises:
        UserError: no image.
    """
    visual = _see(vlm, inputs)
    empty = visual.new_zeros(0, visual.shape[-1])
    return Rows.pack(list(visual), [empty] * len(visual))


def _see(vlm: VLM, inputs: Mapping[str, Tensor]) -> Float[Tensor, "I P d"]:
    visual = vlm.see(dict(inputs))
    if visual is None:
        raise UserError("Freezing is calibrated on questions about pictures: give each question its picture.")
    return visual


def flows(
    model: Model,
    given: Lesson,
    hows: Mapping[int, How],
    flow: Flow | None = None,
    first: int = 0,
    means: MeanStates | None = None,
    stage: Stage | None = None,
) -> list[Flow]:
    """What enters layers `first`, `first` + 1, ... and what leaves the last, under a schedule.

    Args:
        model, given: the LM, and what it is asked.
        hows: the schedule.
        flow: what enters layer `first`; the beginning if None.
        first: the layer to begin with.
        means: the mean states, for layers at "mean".
        stage: drops image rows after some layers; its score reads `hidden` alone.
    """
    pruner = Pruner(model, () if stage is None else (stage,))

    def run(l: int, block: Block, flow: Flow, before: State | None) -> tuple[Flow, State]:
        image, text = flow
        how = hows.get(l)
        image = pruner.enter(l, image)
        assert image is not None
        if how in ("skip", "mean"):
            before = None
            if how == "mean":
                assert means is not None
                before = with_mean(l, block, image, None, means)
                assert before is not None
                before = before.take(given.picture)
            text, state, _ = block.prefill(text, before, frozenset())
            return (image, text), state
        image, state, _ = (block.write if how == "write" else block.prefill)(image, None, frozenset())
        text, _, _ = block.prefill(text, state.take(given.picture), frozenset())
        return (image, text), state

    start = (given.image, given.text) if flow is None else flow
    return [start, *(leaving for leaving, _ in walk(model, start, (), run, first))]


def mean_states(model: Model, lessons: Sequence[Lesson]) -> MeanStates:
    """What the lessons' pictures leave in each layer on average, without any change."""
    return mean_of([(len(given.image.lengths), state_sums(model, given.image)) for given in lessons])


@torch.no_grad()
@without_autocast
def state_sums(model: Model, image: Rows) -> dict[int, dict[str, Tensor]]:
    """What some pictures leave in each layer without any change, summed over them; float64 on the CPU."""
    sums: dict[int, dict[str, Tensor]] = {}

    def run(l: int, block: Block, rows: Rows, before: State | None) -> tuple[Rows, State]:
        rows, state, _ = block.prefill(rows, None, frozenset())
        sums[l] = {name: tensor.double().sum(0).cpu() for name, tensor in state.tensors().items()}
        return rows, state

    walk_through(model, image, (), run)
    return sums


def mean_of(parts: Sequence[tuple[int, Mapping[int, Mapping[str, Tensor]]]]) -> MeanStates:
    """The mean states from how many pictures each part has, and their `state_sums`."""
    pictures = sum(n for n, _ in parts)
    layers: dict[int, dict[str, Tensor]] = {}
    for l, names in parts[0][1].items():
        layers[l] = {name: torch.stack([sums[l][name] for _, sums in parts]).sum(0) / pictures for name in names}
    return MeanStates.of(layers)


def log_p(model: Model, given: Lesson, last: Flow) -> Float[Tensor, "A V"]:
    """Log-probabilities of the answers' tokens from what leaves the last layer."""
    return model.logits(last[1].x[given.answers]).log_softmax(-1)


def divergence_of(model: Model, given: Lesson, last: Flow) -> float:
    """JS of a schedule: mean over questions of the mean over the answer's tokens, nats."""
    js = jensen_shannon(log_p(model, given, last).double(), given.log_p.double())
    if not bool(js.isfinite().all()):
        raise NonFiniteLogits(overflowed(model))
    return float(torch.stack([each.mean() for each in js.split(given.counts)]).mean())
