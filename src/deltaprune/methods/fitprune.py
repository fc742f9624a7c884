"""FitPrune (Ye et al., AAAI 2025): attention statistics decide how many tokens are dropped in each layer."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from deltaprune.counting import rounded_up, share_of_steps
from deltaprune.errors import UserError
from deltaprune.methods import registry
from deltaprune.methods._ranking import Ranking
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.selection import floor_count
from deltaprune.steps import Score, Shape, Stage

BUDGET = 0.6
LEVELS = tuple((k / 16) ** 2 for k in range(1, 16))  # of alpha, at which a plan holds a curve; dense where it is small
STEPS = 2**14  # into which [0, 1] is cut to find alpha


@registry.register("fitprune")
@dataclass(frozen=True)
class FitPrune(Ranking):
    """Drop in each layer the tokens whose attention together is a share alpha of all, at most (arXiv 2409.10197).

    One alpha holds for all layers: the smallest that meets the budget. How many tokens that are in each layer is read
    from `calibrate.fitting`, which measures it over some samples; the plan carries it (`calibrate --fitprune`). Which
    tokens they are is decided by each prompt's own scores.

    Attributes:
        budget: share of the LM prefill's MACs that may be used, for an image and a short question. Where it is not
            given, 0.6; if even dropping all tokens after the first layer costs more, that.
        score: what ranks the tokens, read at every stage anew.

    Deviations: FitPrune ranks by the attention from the text times the attention among visual tokens; the second costs
    quadratic work in a recurrence, so the default is what the last token takes (`HiddenAttention`). Attention is the
    recurrence's implicit one. Its fit prunes layer by layer and looks at the attention that is left; an implicit
    attention is not normalised over the tokens, so what is left does not change, and the statistics of one unpruned
    pass do. Without statistics in the plan a layer loses alpha^(L / l) of the tokens, l layers from the first.
    """

    paper: ClassVar[str] = "FitPrune, Ye et al., AAAI 2025 (arXiv 2409.10197)"

    budget: float | None = None
    score: Score | str = field(default_factory=HiddenAttention)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.budget is not None
        if given and not (isinstance(self.budget, int | float) and 0 < self.budget <= 1):
            raise UserError(f"budget={self.budget!r} must be a share of the MACs, above 0 and at most 1, such as 0.6.")

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        curves = curves_of(shape)

        def share(step: int) -> float:
            return share_of_steps(self._stages(shape, curves, step / STEPS), shape)

        budget = BUDGET if self.budget is None else self.budget
        step = bisect_left(range(STEPS), True, key=lambda step: share(step) <= budget)
        if self.budget is not None and share(step) > budget:
            least = rounded_up(share(STEPS))
            raise UserError(f"budget={budget} is below what dropping all tokens costs: give at least {least}.")
        return self._stages(shape, curves, step / STEPS)

    def _stages(self, shape: Shape, curves: Sequence[Sequence[float]], alpha: float) -> tuple[Stage, ...]:
        """A stage after each layer that lets more tokens go than those before it."""
        stages, gone, n = [], 0, shape.n_visual
        for after in range(1, shape.n_layers):
            removable = floor_count(between(alpha, curves[after - 1]), n)
            if removable > gone:
                gone = removable
                left = n - gone
                stages.append(Stage(after, left / n, self.ranks if left else None))
        return tuple(stages)


def key(level: float) -> str:
    """Under which name a plan holds the curve of one alpha, see `Plan.found`."""
    return f"fitprune {level:g}"


def curves_of(shape: Shape) -> tuple[tuple[float, ...], ...]:
    """For each layer the shares of the tokens that may go, one for each of `LEVELS`."""
    found = [shape.found(key(level)) for level in LEVELS]
    measured = [curve for curve in found if curve is not None]
    if len(measured) == len(LEVELS):
        return tuple(zip(*measured, strict=True))
    depth = shape.n_layers
    return tuple(tuple(level ** (depth / l) for level in LEVELS) for l in range(1, depth + 1))


def between(alpha: float, shares: Sequence[float]) -> float:
    """The share at alpha, on straight lines through (0, 0), the `LEVELS` and (1, 1)."""
    points = list(zip((0.0, *LEVELS, 1.0), (0.0, *shares, 1.0), strict=True))
    for (a, low), (b, high) in pairwise(points):
        if alpha <= b:
            return low + (high - low) * (alpha - a) / (b - a)
    return 1.0
