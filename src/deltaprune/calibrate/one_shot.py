"""Layers ranked by what each change does alone, for large models: batches may be tried in several processes.

    price_c = JS(c alone) / what c alone saves

`freezing.order` tries a change together with those made before, and keeps what enters each layer: one process does it
all. Here every change is tried once, then the divergence along the ranking is measured. Neither needs another batch, so
`run` may hand batches to several processes, each of which finds its own pictures' answers.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.calibrate.freezing import MODES, STORED, Found, Price, check_reachable, counted_text, price_of, share_of
from deltaprune.calibrate.own_answers import image_rows, lesson, mean_of, state_sums
from deltaprune.calibrate.trials import Schedule, Trials
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.mean_states import MeanStates
from deltaprune.plan import Change, How, LayerTimes
from deltaprune.vlm import VLM

Batch = Mapping[str, Tensor]


def one_shot(
    vlm: VLM,
    asked: Iterable[Batch],
    budget: float,
    modes: Sequence[How] = MODES,
    times: LayerTimes | None = None,
    run: Run = here,
    on_trial: Callable[[int], None] | None = None,
    store: int = STORED,
) -> Found:
    """The order of changes down to a budget.

    Args:
        vlm: the model.
        asked: processor outputs, each some pictures with all questions about them, see `asked_together`.
        budget, modes, times, store: as for `freezing.order`.
        run: where each batch is tried.
        on_trial: called with the number of trials of single changes so far, one for each change and batch.

    Raises:
        UserError: no samples, or a budget that these modes cannot meet.
    """
    begin, batches = time.perf_counter(), list(asked)
    if not batches:
        raise UserError("There is nothing to calibrate on: give at least one picture with a question.")
    sizes, _ = _tried(vlm, [], None, store, batches, run)
    questions = sum(n for n, _, _ in sizes)
    text_tokens = counted_text(sum(rows for _, _, rows in sizes) / questions)
    price = price_of(vlm.shape, text_tokens, times)
    check_reachable(budget, modes, price, vlm.shape.n_layers, times)
    means = None
    if "mean" in modes:
        means = mean_of([part for (part,) in parts_of(vlm, sums_of, batches, run)])
    alone: list[tuple[int, How]] = [(l, how) for l in range(vlm.shape.n_layers) for how in modes]
    tell = None if on_trial is None else lambda done: on_trial(min(done, len(alone) * len(batches)))
    singles: list[Schedule] = [{l: how} for l, how in alone]
    _, js = _tried(vlm, singles, means, store, batches, run, tell)
    schedules, changes = _ranking(price, budget, alone, js)
    _, along = _tried(vlm, schedules, means, store, batches, run)
    return Found(
        changes=[Change(l, how, js) for (l, how), js in zip(changes, along, strict=True)],
        shares=[share_of(hows, vlm.shape, text_tokens) for hows in schedules],
        ms=[] if times is None else [price(hows) for hows in schedules],
        evaluations=len(alone) + len(changes),
        seconds=time.perf_counter() - begin,
        questions=questions,
        pictures=sum(n for _, n, _ in sizes),
        one_shot=True,
        means=None if means is None else means.only({l for l, how in changes if how == "mean"}),
    )


def _ranking(
    price: Price, budget: float, alone: Sequence[tuple[int, How]], js: Sequence[float]
) -> tuple[list[Schedule], list[tuple[int, How]]]:
    """The schedules down to the budget, and the change that led to each."""
    whole = price({})
    saved = [whole - price({l: how}) for l, how in alone]
    ranked = sorted((rise / less, change) for rise, less, change in zip(js, saved, alone, strict=True) if less > 0)
    hows: dict[int, How] = {}
    schedules: list[Schedule] = []
    changes: list[tuple[int, How]] = []
    for _, (l, how) in ranked:
        if price(hows) <= budget:
            break
        if price({**hows, l: how}) < price(hows):  # not a write after a skip
            hows = {**hows, l: how}
            schedules.append(hows)
            changes.append((l, how))
    return schedules, changes


def _tried(
    vlm: VLM,
    schedules: Sequence[Schedule],
    means: MeanStates | None,
    store: int,
    batches: Sequence[Batch],
    run: Run,
    on_part: Callable[[int], None] | None = None,
) -> tuple[list[tuple[int, int, int]], list[float]]:
    """Of each batch how many questions, pictures and text rows it has; and each schedule's JS over all questions."""
    found = parts_of(vlm, partial(trials, schedules=schedules, means=means, store=store), batches, run, on_part)
    sizes = [size for size, *_ in found]
    total = sum(n for n, _, _ in sizes)
    columns = zip(*(js for _, *js in found), strict=True)
    return sizes, [sum(n * js for (n, _, _), js in zip(sizes, column, strict=True)) / total for column in columns]


def trials(
    vlm: VLM, batch: Batch, schedules: Sequence[Schedule], means: MeanStates | None, store: int
) -> Iterator[Any]:
    """The sizes of a batch, then each schedule's JS."""
    given = lesson(vlm, dict(batch))
    yield len(given.counts), len(given.image.lengths), len(given.text.x)
    search = _search(vlm, given, means, store)
    for hows in schedules:
        yield _js(vlm, search, hows)


@torch.no_grad()
@without_autocast
def _search(vlm: VLM, given: Any, means: MeanStates | None, store: int) -> Trials:
    return Trials(vlm, [given], {}, 0.0, means, store)


@torch.no_grad()
@without_autocast
def _js(vlm: VLM, search: Trials, hows: Schedule) -> float:
    return search(hows)


def sums_of(vlm: VLM, batch: Batch) -> Iterator[tuple[int, dict[int, dict[str, Tensor]]]]:
    """Of a batch how many pictures it has, and the sum of what each leaves in each layer."""
    image = image_rows(vlm, batch)
    yield len(image.lengths), state_sums(vlm.model.lm, image)
