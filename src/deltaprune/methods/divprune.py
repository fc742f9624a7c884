"""DivPrune (Alvar et al., CVPR 2025): a diverse part of the image, chosen before the LM."""

from dataclasses import dataclass
from typing import ClassVar

from deltaprune.checks import check_keep
from deltaprune.methods import registry
from deltaprune.scores.diversity import Diversity
from deltaprune.selection import round_count
from deltaprune.steps import Method, Shape, Stage


@registry.register("divprune")
@dataclass(frozen=True)
class DivPrune(Method):
    """Keep the visual tokens that lie farthest apart, before the LM's first layer (arXiv 2503.02175).

    Attributes:
        keep: share that is kept, DivPrune's SUBSET_RATIO; int(round(keep * n)) tokens, as in its code.

    The choice is made on the projector's output, so it sees no layer and no text. Deviations: those of `Diversity`.
    """

    paper: ClassVar[str] = "DivPrune, Alvar et al., CVPR 2025 (arXiv 2503.02175)"

    keep: float = 0.5

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return (Stage(after=0, keep=self.keep, score=Diversity(self.keep), count=round_count),)
