"""MMR: tokens that are relevant and unlike each other, by maximal marginal relevance (IDPruner's rule)."""

from dataclasses import dataclass, field
from typing import ClassVar

from deltaprune.checks import check_keep, check_layer, check_share
from deltaprune.methods import registry
from deltaprune.methods._ranking import Ranking
from deltaprune.scores.marginal_relevance import MarginalRelevance
from deltaprune.scores.readout import ReadoutNorm
from deltaprune.steps import Score, Shape, Stage


@registry.register("mmr")
@dataclass(frozen=True)
class MMR(Ranking):
    """Keep the tokens that `MarginalRelevance` picks, after layer `after` (IDPruner, arXiv 2602.13315).

    Attributes:
        keep: share that is kept.
        after: layers that see all tokens.
        score: the relevance: "readout", the norm of C_t, or one that knows the question, "stateful" or
            "hidden_attention".
        balance: the weight of relevance against unlikeness, IDPruner's lambda; 1 is relevance alone. The default is
            ours.

    Deviations: IDPruner chooses once, before the LM, with the vision encoder's own saliency; here relevance is what a
    recurrent layer provides, so the choice is made after one. Deviations in the choice itself: see `MarginalRelevance`.
    """

    paper: ClassVar[str] = "IDPruner, Tan et al., 2026 (arXiv 2602.13315)"

    keep: float = 0.5
    after: int = 1
    score: Score | str = field(default_factory=ReadoutNorm)
    balance: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keep(self.keep)
        check_layer("after", self.after)
        check_share("balance", self.balance)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        score = MarginalRelevance(self.ranks, self.balance, self.keep)
        return (Stage(after=self.after, keep=self.keep, score=score),)
