"""Coverage: SCOPE's greedy choice; each pick adds the most coverage, weighted by saliency."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.checks import check_keep, check_positive
from deltaprune.rows import Rows
from deltaprune.scores import as_score, registry
from deltaprune.scores._greedy import most_picks, places, scored, side_by_side, spread_out
from deltaprune.scores._ranks import flag_broken
from deltaprune.scores.delta import Delta
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("coverage")
@dataclass(frozen=True)
class Coverage(Score):
    """s_j = minus the place at which SCOPE picks token j; the first pick has 0.

        pick = argmax_j  w_j^alpha sum_i max(0, cos(x_i, x_j) - c_i),    c_i = max(0, max over picks p of cos(x_i, x_p))

    The sum, over all tokens of the image, is how much better they are covered once j is picked; w is the saliency, x
    norm_f of the residual stream. Ties go to the lower index.

    Shape (T,), range [-n_visual, 0] for visual rows, 1 for text rows. Sees text: no, unless the saliency does.
    Source: SCOPE (arXiv 2510.24214, github.com/kinredon/SCOPE).

    Attributes:
        saliency: a score or the name of one, with values from 0 up. SCOPE takes the attention of the vision encoder's
            class token, which the LM does not see; `Delta()` is what DTP's paper uses in place of attention.
        alpha: the weight of saliency; 0 is coverage alone.
        keep: the share that is chosen; all further rows share the lowest score.

    One step of P x P sums per pick, for all images of the batch at once.
    """

    paper: ClassVar[str] = "SCOPE (arXiv 2510.24214)"

    saliency: Score | str = field(default_factory=Delta)
    alpha: float = 1.0
    keep: float = 1.0

    needs = frozenset({"hidden", "step"})
    sees_text = False

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha, zero=True)
        check_keep(self.keep)
        saliency = as_score(self.saliency)
        object.__setattr__(self, "saliency", saliency)
        object.__setattr__(self, "needs", saliency.needs | {"hidden"})
        object.__setattr__(self, "also", saliency.also)
        object.__setattr__(self, "sees_text", saliency.sees_text)

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        if not any(rows.n_visual):
            return torch.ones(len(rows.x), device=rows.x.device)
        weight = as_score(self.saliency)(rows, trace)
        images = side_by_side(rows, trace["hidden"])
        alike = images.alike.double()  # exact sums: two tokens that cover only each other must have the same gain
        wanted = spread_out(rows, weight).clamp(min=0) ** float(self.alpha)
        covered = [torch.zeros_like(wanted, dtype=torch.float64)]

        def gain() -> Tensor:
            return wanted * (alike - covered[0][..., None]).clamp(min=0).sum(1)

        def take(pick: Tensor) -> None:
            covered[0] = torch.maximum(covered[0], images.to(pick))

        place = places(images.there, most_picks(rows, self.keep), gain, take)
        return flag_broken(scored(rows, place, self.keep), trace["hidden"], weight)
