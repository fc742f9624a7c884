"""How freezing and dropping rows are best combined, at each budget.

Freezing gets dear once the layers that are left must update rows, dropping once the rows that are left are needed by
the answer. Below some budget the two together lose less than either alone: fewer rows, updated in more layers. So at
each budget the calibrated order is followed less far than it would have to be alone, and the rest of the MACs is saved
by dropping the rows that are least unique after an early layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from deltaprune.calibrate.own_answers import Lesson
from deltaprune.calibrate.trials import Trials
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.methods.freeze import Freeze
from deltaprune.plan import Plan, Shape, Thinning
from deltaprune.steps import Step, passes_of, stages_of
from deltaprune.vlm import VLM

BUDGETS = (0.6, 0.54, 0.48, 0.43, 0.39, 0.35, 0.32, 0.28, 0.24, 0.2, 0.16)
EARLY = (1, 2)  # the second is tried about the best of the first
LEAST_KEPT = 0.3  # of the rows
NEGLIGIBLE = 1e-4  # nats: below it nothing is dropped


@torch.no_grad()
@without_autocast
def thin(
    vlm: VLM,
    plan: Plan,
    lessons: Sequence[Lesson],
    least: float,
    store: int,
    on_budget: Callable[[Thinning], None] | None = None,
) -> tuple[Thinning, ...]:
    """The best combination at each budget down to `least`.

    Args:
        vlm: the model.
        plan: with its order of freezing.
        lessons: what `lesson` gave; the order was found on them.
        least: the smallest budget.
        store: bytes of rows that may be stored.
        on_budget: called with each result.
    """
    search, shape, found = Trials(vlm, lessons, {}, 0.0, plan.means, store), replace(vlm.shape, plan=plan), []

    def divergence(steps: Sequence[Step]) -> float:
        return search(passes_of(steps), next(iter(stages_of(steps)), None))

    for budget in (each for each in BUDGETS if each >= least):
        tried: list[Thinning] = []
        alone = frozen_alone(shape, budget)
        if alone is not None:
            js = divergence(alone)
            tried.append(Thinning(budget, 1, len(plan.freezing), js))
            if js < NEGLIGIBLE:
                found.append(tried[0])
                continue
        about = range(len(plan.freezing))
        for early in EARLY:
            for changes in about:
                steps = combined(shape, Thinning(budget, early, changes, 0.0))
                if steps is not None:
                    tried.append(Thinning(budget, early, changes, divergence(steps)))
            best = min(tried, key=lambda each: each.js, default=None)
            about = range(0) if best is None else range(max(0, best.changes - 1), best.changes + 2)
        if tried:
            found.append(min(tried, key=lambda each: each.js))
            if on_budget:
                on_budget(found[-1])
    return tuple(found)


def frozen_alone(shape: Shape, budget: float) -> Sequence[Step] | None:
    """The steps that keep every row; None where the order does not go so low."""
    try:
        return Freeze(budget, keep=1.0).steps(shape)
    except UserError:
        return None


def combined(shape: Shape, best: Thinning) -> Sequence[Step] | None:
    """The steps with so many changes, and as many rows as the budget allows; None where these are all or too few."""
    assert shape.plan is not None
    try:
        steps = Freeze(best.budget).steps(replace(shape, plan=replace(shape.plan, thinning=(best,))))
    except UserError:
        return None
    stages = stages_of(steps)
    return steps if stages and stages[0].keep >= LEAST_KEPT else None
