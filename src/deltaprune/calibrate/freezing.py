"""In which order layers may stop updating visual rows: what moves the model's own answers least per MAC saved.

    JS(S) = mean over questions, then over the tokens of each answer, of JS(P, P_S)
    P, P_S: the next token's distribution, unpruned and under the schedule S, teacher-forced on the unpruned answer

No labels are needed: the model is compared with itself. Start with every layer updating ("full"); again and again take
the change, a layer to "write" or to "skip", with the least rise of JS per MAC saved, until the budget is met.

Of each picture every question is asked, since a layer may matter to one kind alone. An image runs once for all its
questions. What enters each layer is stored, so that a change at layer l runs the layers from l on; and a change is
tried again only when its last known rise per MAC is the least of all (lazy greedy), so most are tried once or twice.
"""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.calibrate.divergence import jensen_shannon
from deltaprune.counting import share_of_steps
from deltaprune.errors import UserError
from deltaprune.generate import NonFiniteLogits, overflowed
from deltaprune.kernels import without_autocast
from deltaprune.methods.freeze import passes
from deltaprune.plan import Change, Shape
from deltaprune.protocols import Block, Model, State
from deltaprune.rows import Rows
from deltaprune.vlm import VLM
from deltaprune.walk import walk

How = Literal["write", "skip"]  # of the layers that do not update visual rows
STORED = 2 * 2**30  # bytes of stored rows; beyond, every trial runs from the first layer on
MODES: tuple[How, ...] = ("write", "skip")


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


@dataclass
class Found:
    """What the search found, and what it took.

    Attributes:
        changes: the order.
        shares: of the MACs after each change, for prompts as long as the samples' mean.
        evaluations, seconds: forward passes of all samples (or parts of them), and the time of all.
        questions, pictures: how many there were.
        one_shot: whether layers were ranked by what each does alone, without trying them together.
    """

    changes: list[Change] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    evaluations: int = 0
    seconds: float = 0.0
    questions: int = 0
    pictures: int = 0
    one_shot: bool = False


Flow = tuple[Rows, Rows]  # the images' rows and the questions' rows


@torch.no_grad()
@without_autocast
def lesson(vlm: VLM, inputs: dict[str, Tensor], max_new_tokens: int = 16) -> Lesson:
    """The model's own answers to some questions, and what it takes to compare with them.

    Args:
        vlm: the model; no method acts on it here.
        inputs: processor output for some pictures and all questions about them, with `image_index`.
        max_new_tokens: upper bound of an answer's length.

    Raises:
        UserError: no image.
    """
    visual = vlm.see(inputs)
    if visual is None:
        raise UserError("Freezing is calibrated on questions about pictures: give each question its picture.")
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


def flows(model: Model, given: Lesson, hows: Mapping[int, How], flow: Flow | None = None, first: int = 0) -> list[Flow]:
    """What enters layers `first`, `first` + 1, ... and what leaves the last, under a schedule."""

    def run(l: int, block: Block, flow: Flow, before: State | None) -> tuple[Flow, State]:
        image, text = flow
        how = hows.get(l)
        if how == "skip":
            text, state, _ = block.prefill(text, None, frozenset())
            return (image, text), state
        image, state, _ = (block.write if how == "write" else block.prefill)(image, None, frozenset())
        text, _, _ = block.prefill(text, state.take(given.picture), frozenset())
        return (image, text), state

    start = (given.image, given.text) if flow is None else flow
    return [start, *(leaving for leaving, _ in walk(model, start, (), run, first))]


def log_p(model: Model, given: Lesson, last: Flow) -> Float[Tensor, "A V"]:
    """Log-probabilities of the answers' tokens from what leaves the last layer."""
    return model.logits(last[1].x[given.answers]).log_softmax(-1)


def divergence_of(model: Model, given: Lesson, last: Flow) -> float:
    """JS of a schedule: mean over questions of the mean over the answer's tokens, nats."""
    js = jensen_shannon(log_p(model, given, last).double(), given.log_p.double())
    if not bool(js.isfinite().all()):
        raise NonFiniteLogits(overflowed(model))
    return float(torch.stack([each.mean() for each in js.split(given.counts)]).mean())


class _Search:
    """The state of the greedy search over some lessons."""

    def __init__(self, vlm: VLM, lessons: Sequence[Lesson], known: Sequence[Change], store: int):
        self.model, self.lessons, self.shape = vlm.model.lm, lessons, vlm.shape
        self.hows: dict[int, How] = {change.layer: change.how for change in known}
        size = sum(each.image.x.nbytes + each.text.x.nbytes for each in lessons) * (self.shape.n_layers + 1)
        self.stores = size <= store
        self.evaluations = 0
        self.js = known[-1].js if known else 0.0
        self.kept = self._kept(0, None)

    def trial(self, l: int, how: How) -> float:
        """JS if layer l changed."""
        self.evaluations += 1
        total, count = 0.0, 0
        hows: dict[int, How] = {**self.hows, l: how}
        for i, given in enumerate(self.lessons):
            begin = (self.kept[i][l], l) if self.stores else (None, 0)
            last = flows(self.model, given, hows, *begin)[-1]
            total += len(given.counts) * divergence_of(self.model, given, last)
            count += len(given.counts)
        return total / count

    def accept(self, change: Change) -> None:
        """The change is part of the schedule from now on."""
        self.hows[change.layer] = change.how
        self.js = change.js
        if self.stores:
            self.kept = self._kept(change.layer, self.kept)

    def _kept(self, first: int, before: list[list[Flow]] | None) -> list[list[Flow]]:
        if not self.stores:
            return []
        return [
            (before[i][:first] if before else [])
            + flows(self.model, given, self.hows, before[i][first] if before else None, first)
            for i, given in enumerate(self.lessons)
        ]


@torch.no_grad()
@without_autocast
def order(
    vlm: VLM,
    lessons: Sequence[Lesson],
    budget: float,
    modes: Sequence[How] = MODES,
    one_shot: bool = False,
    known: Sequence[Change] = (),
    on_change: Callable[[Found], None] | None = None,
    store: int = STORED,
) -> Found:
    """The order of changes down to a budget.

    Args:
        vlm: the model.
        lessons: what `lesson` gave.
        budget: share of the LM prefill's MACs at which to stop.
        modes: which changes are tried.
        one_shot: rank all changes by what each does alone: one trial each, for models on which a trial is dear.
        known: the beginning of an order, found before with the same samples.
        on_change: told what is known after each change.
        store: bytes of rows that may be stored.

    Raises:
        UserError: no samples, or a budget that these modes cannot meet.
    """
    if not lessons:
        raise UserError("There is nothing to calibrate on: give at least one picture with a question.")
    begin, search, found = time.perf_counter(), _Search(vlm, lessons, known, store), Found(list(known))
    found.questions = sum(len(each.counts) for each in lessons)
    found.pictures, found.one_shot = sum(len(each.image.lengths) for each in lessons), one_shot
    text_tokens = sum(len(each.text.x) for each in lessons) / found.questions
    ranked: list[tuple[float, int, int, How]] = [(0.0, -1, l, how) for l in range(vlm.shape.n_layers) for how in modes]
    share = share_of(search.hows, vlm.shape, text_tokens)
    heapq.heapify(ranked)
    while share > budget:
        change = _next(search, ranked, len(found.changes), vlm.shape, text_tokens, one_shot)
        if change is None:
            raise UserError(f"budget={budget} is out of reach: with {', '.join(modes)} the least is {share:.3f}.")
        search.accept(change)
        share = share_of(search.hows, vlm.shape, text_tokens)
        found.changes.append(change)
        found.shares.append(share)
        found.evaluations, found.seconds = search.evaluations, time.perf_counter() - begin
        if on_change:
            on_change(found)
    return found


def share_of(hows: Mapping[int, How], shape: Shape, text_tokens: float) -> float:
    """MACs of a schedule over those without."""
    return share_of_steps(passes(hows), shape, text_tokens)


def _next(
    search: _Search,
    ranked: list[tuple[float, int, int, How]],
    turn: int,
    shape: Shape,
    text_tokens: float,
    one_shot: bool,
) -> Change | None:
    """The change with the least rise per MAC; `ranked` holds (rise per share, turn it was tried in, layer, how)."""
    now = share_of(search.hows, shape, text_tokens)
    while ranked:
        rise, tried, l, how = heapq.heappop(ranked)
        saved = now - share_of({**search.hows, l: how}, shape, text_tokens)
        if search.hows.get(l) == how or saved <= 0:
            continue  # a write after a skip, or a change that has been made
        if tried == turn or (one_shot and tried >= 0):
            return Change(l, how, search.trial(l, how) if one_shot else search.js + rise * saved)
        heapq.heappush(ranked, ((search.trial(l, how) - search.js) / saved, turn, l, how))
    return None
