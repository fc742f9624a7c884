"""SCOPE (Deng et al., NeurIPS 2025): a part of the image that covers all of it, the salient tokens first."""

from dataclasses import dataclass, field
from typing import ClassVar

from deltaprune.checks import check_keep, check_layer, check_positive
from deltaprune.methods import registry
from deltaprune.methods._ranking import Ranking
from deltaprune.scores.coverage import Coverage
from deltaprune.scores.delta import Delta
from deltaprune.steps import Score, Shape, Stage


@registry.register("scope")
@dataclass(frozen=True)
class SCOPE(Ranking):
    """Keep the tokens that `Coverage` picks, after layer `after` (arXiv 2510.24214, github.com/kinredon/SCOPE).

    Attributes:
        keep: share that is kept.
        after: layers that see all tokens.
        score: the saliency, a score of values from 0 up.
        alpha: its weight, SCOPE's own is 1; 0 is coverage alone.

    Deviations: SCOPE chooses before the LM by the attention of the vision encoder's class token, which no layer of the
    LM provides (and SigLIP has no class token); here saliency is a score of a recurrent layer, Delta in place of
    attention, and similarity is that of the rows after that layer.
    """

    paper: ClassVar[str] = "SCOPE, Deng et al., NeurIPS 2025 (arXiv 2510.24214)"

    keep: float = 0.5
    after: int = 2
    score: Score | str = field(default_factory=Delta)
    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keep(self.keep)
        check_layer("after", self.after)
        check_positive("alpha", self.alpha, zero=True)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        score = Coverage(self.ranks, self.alpha, self.keep)
        return (Stage(after=self.after, keep=self.keep, score=score),)
