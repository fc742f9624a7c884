"""MarginalRelevance: greedy, each pick relevant and unlike the picks before it (MMR)."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.checks import check_keep, check_share
from deltaprune.rows import Rows
from deltaprune.scores import as_score, registry
from deltaprune.scores._greedy import most_picks, places, scored, side_by_side, spread_out
from deltaprune.scores._ranks import flag_broken
from deltaprune.scores.readout import ReadoutNorm
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("marginal_relevance")
@dataclass(frozen=True)
class MarginalRelevance(Score):
    """s_j = minus the place at which maximal marginal relevance picks token j; the first pick has 0.

        pick = argmax_j  balance r_j - (1 - balance) max over picks i of cos(x_i, x_j)
        r = (w - min w) / (max w - min w)

    w is the relevance, scaled to [0, 1] within each image (0 where all are equal); x is norm_f of the residual stream.
    The first pick is the most relevant token. Ties go to the lower index.

    Shape (T,), range [-n_visual, 0] for visual rows, 1 for text rows. Sees text: no, unless the relevance does.
    Source: IDPruner (arXiv 2602.13315), after Carbonell and Goldstein, 1998.

    Attributes:
        relevance: a score or the name of one; "readout" is independent of the question, "stateful" and
            "hidden_attention" depend on it.
        balance: IDPruner's lambda, 1 for relevance alone.
        keep: the share that is chosen; all further rows share the lowest score.

    One step per pick, each for all images of the batch at once; the similarities are P x P for each image.
    """

    paper: ClassVar[str] = "IDPruner (arXiv 2602.13315)"

    relevance: Score | str = field(default_factory=ReadoutNorm)
    balance: float = 0.5
    keep: float = 1.0

    needs = frozenset({"hidden", "query"})
    sees_text = False

    def __post_init__(self) -> None:
        check_share("balance", self.balance)
        check_keep(self.keep)
        relevance = as_score(self.relevance)
        object.__setattr__(self, "relevance", relevance)
        object.__setattr__(self, "needs", relevance.needs | {"hidden"})
        object.__setattr__(self, "also", relevance.also)
        object.__setattr__(self, "sees_text", relevance.sees_text)

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        if not any(rows.n_visual):
            return torch.ones(len(rows.x), device=rows.x.device)
        weight = as_score(self.relevance)(rows, trace)
        images = side_by_side(rows, trace["hidden"])
        wanted = self.balance * between_0_and_1(spread_out(rows, weight), images.there)
        nearest: list[Tensor] = []

        def gain() -> Tensor:
            return wanted - (1 - self.balance) * nearest[-1] if nearest else wanted

        def take(pick: Tensor) -> None:
            to_pick = images.to(pick)
            nearest[:] = [torch.maximum(nearest[-1], to_pick) if nearest else to_pick]

        place = places(images.there, most_picks(rows, self.keep), gain, take)
        return flag_broken(scored(rows, place, self.keep), trace["hidden"], weight)


def between_0_and_1(values: Float[Tensor, "B P"], there: Tensor) -> Float[Tensor, "B P"]:
    """Each image's values scaled so that the lowest is 0 and the highest 1; 0 where all are equal."""
    lowest = values.masked_fill(~there, torch.inf).amin(-1, keepdim=True)
    highest = values.masked_fill(~there, -torch.inf).amax(-1, keepdim=True)
    width = highest - lowest
    return torch.where(there & (width > 0), (values - lowest) / width, 0.0)
