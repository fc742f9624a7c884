"""In which order layers may stop updating visual rows: what moves the model's own answers least per MAC saved.

    JS(S) = mean over questions, then over the tokens of each answer, of JS(P, P_S)
    P, P_S: the next token's distribution, unpruned and under the schedule S, teacher-forced on the unpruned answer

No labels are needed: the model is compared with itself. Start with every layer updating ("full"); again and again take
the change, a layer to "write", "mean" or "skip", with the least rise of JS per MAC saved, until the budget is met.

Of each picture every question is asked, since a layer may matter to one kind alone. An image runs once for all its
questions. What enters each layer is stored, so that a change at layer l runs the layers from l on; and a change is
tried again only when its last known rise per MAC is the least of all (lazy greedy), so most are tried once or twice.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from deltaprune.calibrate.own_answers import Lesson, mean_states
from deltaprune.calibrate.trials import Trials
from deltaprune.counting import TEXT_TOKENS, ms_of_steps, rounded_up, share_of_steps
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.mean_states import MeanStates
from deltaprune.methods.freeze import passes
from deltaprune.plan import Change, How, LayerTimes, Shape
from deltaprune.vlm import VLM

UNREAD = MeanStates("")  # what a layer costs does not depend on its mean state
STORED = 2 * 2**30  # bytes of stored rows; beyond, every trial runs from the first layer on
MODES: tuple[How, ...] = ("write", "mean", "skip")
Price = Callable[[Mapping[int, How]], float]  # what a schedule costs


@dataclass
class Found:
    """What the search found, and what it took.

    Attributes:
        changes: the order.
        shares: of the MACs after each change, for prompts of `counted_text` text tokens.
        ms: the prefill's milliseconds after each change, where the budget is in them.
        evaluations, seconds: forward passes of all samples (or parts of them), and the time of all.
        questions, pictures: how many there were.
        one_shot: whether layers were ranked by what each does alone, see `one_shot`.
        means: the mean states of the layers that were changed to "mean".
    """

    changes: list[Change] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    evaluations: int = 0
    seconds: float = 0.0
    questions: int = 0
    pictures: int = 0
    one_shot: bool = False
    means: MeanStates | None = None


@torch.no_grad()
@without_autocast
def order(
    vlm: VLM,
    lessons: Sequence[Lesson],
    budget: float,
    modes: Sequence[How] = MODES,
    times: LayerTimes | None = None,
    known: Sequence[Change] = (),
    on_change: Callable[[Found], None] | None = None,
    store: int = STORED,
) -> Found:
    """The order of changes down to a budget.

    Args:
        vlm: the model.
        lessons: what `lesson` gave.
        budget: share of the LM prefill's MACs at which to stop; with `times` the prefill's milliseconds.
        modes: which changes are tried.
        times: what a layer takes, for a search by time.
        known: the beginning of an order, found before with the same samples.
        on_change: called with what is known after each change.
        store: bytes of rows that may be stored.

    Raises:
        UserError: no samples, or a budget that these modes cannot meet.
    """
    if not lessons:
        raise UserError("There is nothing to calibrate on: give at least one picture with a question.")
    begin, found = time.perf_counter(), Found(list(known))
    means = mean_states(vlm.model.lm, lessons) if "mean" in modes else None
    hows: dict[int, How] = {change.layer: change.how for change in known}
    search = Trials(vlm, lessons, hows, known[-1].js if known else 0.0, means, store)
    found.questions = sum(len(each.counts) for each in lessons)
    found.pictures = sum(len(each.image.lengths) for each in lessons)
    text_tokens = counted_text(sum(len(each.text.x) for each in lessons) / found.questions)
    ranked: list[tuple[float, int, int, How]] = [(0.0, -1, l, how) for l in range(vlm.shape.n_layers) for how in modes]
    price = price_of(vlm.shape, text_tokens, times)
    check_reachable(budget, modes, price, vlm.shape.n_layers, times)
    heapq.heapify(ranked)
    while (cost := price(search.hows)) > budget:
        change = _next(search, ranked, len(found.changes), price)
        if change is None:
            raise unreachable(budget, modes, cost, times)
        search.accept({**search.hows, change.layer: change.how}, change.js)
        found.changes.append(change)
        found.shares.append(share_of(search.hows, vlm.shape, text_tokens))
        found.ms += [] if times is None else [price(search.hows)]
        found.evaluations, found.seconds = search.evaluations, time.perf_counter() - begin
        if on_change:
            on_change(found)
    at_mean = {l for l, how in search.hows.items() if how == "mean"} | {
        c.layer for c in found.changes if c.how == "mean"
    }
    found.means = means.only(at_mean) if means is not None and at_mean else None
    return found


def share_of(hows: Mapping[int, How], shape: Shape, text_tokens: float) -> float:
    """MACs of a schedule over those without."""
    return share_of_steps(passes(hows, UNREAD), shape, text_tokens)


def price_of(shape: Shape, text_tokens: float, times: LayerTimes | None = None) -> Price:
    """What a schedule costs: its share of the MACs, or with `times` its milliseconds."""
    if times is None:
        return lambda hows: share_of(hows, shape, text_tokens)
    return lambda hows: ms_of_steps(passes(hows, UNREAD), shape, times)


def counted_text(mean: float) -> float:
    """Text tokens by which a budget is counted: the samples' mean, or a short question's where that is more.

    `Freeze` counts its budget by a short question, and then the order reaches as far as a budget of the same size asks.
    """
    return max(mean, TEXT_TOKENS)


def check_reachable(
    budget: float, modes: Iterable[How], price: Price, n_layers: int, times: LayerTimes | None = None
) -> None:
    """Check that these modes can meet a budget, else a `UserError`; what a layer saves does not depend on others."""
    cheapest: dict[int, How] = {}
    for l in range(n_layers):
        how = min(modes, key=lambda how: price({l: how}))
        if price({l: how}) < price({}):
            cheapest[l] = how
    if (least := price(cheapest)) > budget:
        raise unreachable(budget, modes, least, times)


def unreachable(budget: float, modes: Iterable[How], least: float, times: LayerTimes | None = None) -> UserError:
    """These modes end above the budget, a share of the MACs or, with `times`, milliseconds."""
    unit, most = ("of the MACs", "") if times is None else ("ms", " ms")
    return UserError(
        f"budget={budget:g}{most} is out of reach: with {', '.join(sorted(modes))} the least is {least:.3f} {unit}, so "
        f"give at least {rounded_up(least)}."
    )


def _next(search: Trials, ranked: list[tuple[float, int, int, How]], turn: int, price: Price) -> Change | None:
    """The change with the least rise for what it saves; `ranked` holds (rise, turn it was tried in, layer, how)."""
    now = price(search.hows)
    while ranked:
        rise, tried, l, how = heapq.heappop(ranked)
        saved = now - price({**search.hows, l: how})
        if search.hows.get(l) == how or saved <= 0:
            continue  # a write after a skip, or a change that has been made
        if tried == turn:
            return Change(l, how, search.js + rise * saved)
        heapq.heappush(ranked, ((search({**search.hows, l: how}) - search.js) / saved, turn, l, how))
    return None
