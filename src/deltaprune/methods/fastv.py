"""FastV (Chen et al., ECCV 2024): one early cut."""

from dataclasses import dataclass, field
from typing import ClassVar

from deltaprune.checks import check_keep, check_layer
from deltaprune.methods import registry
from deltaprune.methods._ranking import Ranking
from deltaprune.scores.delta import Delta
from deltaprune.steps import Score, Shape, Stage


@registry.register("fastv")
@dataclass(frozen=True)
class FastV(Ranking):
    """Keep the best share of the visual tokens after layer `after` (arXiv 2403.06764, github.com/pkunlp-icler/FastV).

    Attributes:
        keep: share that is kept. FastV's own R is the share that is dropped, R = 1 - keep.
        after: FastV's K, layers that see all tokens.
        score: FastV ranks by the attention the last token pays. Mamba has none: `Delta()` is the paper's stand-in
            (Table 1), `HiddenAttention()` the faithful counterpart.

    Deviations: selected once during prefill (as FastV's own cached variant does), ties go to the lower index.
    """

    paper: ClassVar[str] = "FastV, Chen et al., ECCV 2024 (arXiv 2403.06764)"

    keep: float = 0.5
    after: int = 2
    score: Score | str = field(default_factory=Delta)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keep(self.keep)
        check_layer("after", self.after)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return (Stage(after=self.after, keep=self.keep, score=self.ranks),)
