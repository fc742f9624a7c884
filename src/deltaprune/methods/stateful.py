"""Stateful token reduction (Jiang et al., 2026): few tokens at first, more later, ranked by the question's readouts."""

from dataclasses import dataclass, field
from typing import ClassVar

from deltaprune.checks import check_keep, check_positive
from deltaprune.methods import registry
from deltaprune.methods._ranking import Ranking
from deltaprune.methods._schedule import Layer, check_schedule, schedule
from deltaprune.scores.stateful import Stateful
from deltaprune.steps import Score, Shape, Stage


@registry.register("stateful")
@dataclass(frozen=True)
class StatefulReduction(Ranking):
    """Drop a little after every early layer and more after every later one (arXiv 2603.00198).

        share left after step i of n:  1 - (1 - keep) (i / n)^power

    Which tokens matter changes from layer to layer, so each step ranks anew those that are left.

    Attributes:
        keep: share that is left after the last step.
        early, until, every: a step after `early` layers and every `every` layers while below `until`; "plan" takes the
            early and the late layer of the model's plan.
        power: 1 drops the same number at each step, more than 1 fewer at first; the paper's schedule goes from low to
            high.
        score: ranks the tokens; by default the paper's query-conditioned score without the decay.

    Deviations: the paper's exact schedule was not available, the power law is ours; its light finetuning is left out;
    its models are hybrids, here every layer is recurrent.
    """

    paper: ClassVar[str] = "Stateful Token Reduction, Jiang et al., 2026 (arXiv 2603.00198)"

    keep: float = 0.5
    early: Layer = 1
    until: Layer = "plan"
    every: int = 1
    power: float = 2.0
    score: Score | str = field(default_factory=Stateful)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keep(self.keep)
        check_schedule(self.early, self.until, self.every)
        check_positive("power", self.power)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        layers = schedule(shape, self.early, self.until, self.every)
        n = len(layers)
        shares = (1 - (1 - self.keep) * (i / n) ** self.power for i in range(1, n + 1))
        return tuple(Stage(after, share, self.ranks) for after, share in zip(layers, shares, strict=True))
