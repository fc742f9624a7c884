"""ToMe in order (Bolya et al., ICLR 2023; in Mamba R-MeeTo, Shi et al. 2024): merge the most similar tokens."""

from dataclasses import dataclass
from typing import ClassVar

from deltaprune.checks import check_keep
from deltaprune.merge import Merge
from deltaprune.methods import registry
from deltaprune.methods._schedule import Layer, check_schedule, schedule
from deltaprune.scores.redundancy import Redundancy
from deltaprune.steps import Method, Shape, Stage


@registry.register("tome")
@dataclass(frozen=True)
class ToMe(Method):
    """Every other layer, merge the most similar pairs of a bipartite matching (arXiv 2210.09461 and 2412.12496).

    Every second visual token is a target; the tokens between them that are most similar to a target are merged into it,
    size-weighted, and the order is restored, which Mamba needs (R-MeeTo).

    Attributes:
        keep: share that is left after the last step; each step merges the same number of tokens (ToMe's r).
        early, until, every: a step after `early` layers and every `every` layers while below `until`; "plan" takes the
            early and the late layer of the model's plan.

    Deviations: no re-training, which R-MeeTo is about; visual rows only; similarity is that of the residual rows (ToMe:
    keys; R-MeeTo: x, B, C or Delta); a share below 1 / (number of steps + 1) also drops targets, see `Redundancy`.
    """

    paper: ClassVar[str] = (
        "ToMe, Bolya et al., ICLR 2023 (arXiv 2210.09461); R-MeeTo, Shi et al., 2024 (arXiv 2412.12496)"
    )

    keep: float = 0.5
    early: Layer = "plan"
    until: Layer = "plan"
    every: int = 2

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_schedule(self.early, self.until, self.every)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        layers = schedule(shape, self.early, self.until, self.every)
        n, score, reduce = len(layers), Redundancy(), Merge(into="half")
        shares = ((n - i * (1 - self.keep)) / n for i in range(1, n + 1))
        return tuple(Stage(after, share, score, reduce=reduce) for after, share in zip(layers, shares, strict=True))
