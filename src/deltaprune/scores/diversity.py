"""Diversity: DivPrune's greedy choice, each pick as far as possible from all picks before."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deltaprune.checks import check_keep
from deltaprune.rows import Rows, on_device
from deltaprune.scores import registry
from deltaprune.scores._ranks import flag_broken
from deltaprune.selection import round_count
from deltaprune.similarity import cosine
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("diversity")
@dataclass(frozen=True)
class Diversity(Score):
    """s_j = minus the place at which max-min diversity picks token j; the first pick has 0.

    Distance is 1 - cosine of the residual rows (before the LM: of the projector's output). The first pick is the token
    whose nearest neighbour is farthest; each next one has the largest distance to its nearest pick. Ties go to the
    lower index, and nothing is picked twice (the official code picks a duplicate again).

    Shape (T,), range [-n_visual, 0] for visual rows, 1 for text rows. Sees text: no. Source: DivPrune (arXiv
    2503.02175).

    Attributes:
        keep: the share that is chosen; all further rows share the lowest score.

    One step per pick, each for all images of the batch at once; the distances are P x P for each image.
    """

    paper: ClassVar[str] = "DivPrune (arXiv 2503.02175)"

    keep: float = 1.0

    def __post_init__(self) -> None:
        check_keep(self.keep)

    needs = frozenset()
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        scores = torch.ones(len(rows.x), device=rows.x.device)
        widest = max(rows.n_visual, default=0)
        if widest == 0:
            return scores
        apart = rows.x.new_zeros(len(rows.lengths), widest, widest)
        for b, live in enumerate(rows.n_visual):
            image = rows.x[rows.visual_rows(b)]
            apart[b, :live, :live] = 1 - cosine(image, image)
        picks = [min(round_count(self.keep, n), live) for n, live in zip(rows.n_image, rows.n_visual, strict=True)]
        live, end = (on_device(n, apart.device)[:, None] for n in (rows.n_visual, picks))
        place = places(apart, torch.arange(widest, device=apart.device) < live, max(picks))
        place = torch.where(place < end, place, live)
        for b, n in enumerate(rows.n_visual):
            scores[rows.visual_rows(b)] = -place[b, :n].float()
        return flag_broken(scores, rows.x)


def places(apart: Float[Tensor, "B P P"], there: Bool[Tensor, "B P"], picks: int) -> Int[Tensor, "B P"]:
    """The place of each token in the order of picks, P where it is not picked.

    Args:
        apart: distances within each image; overwritten.
        there: which tokens exist (images may have fewer than P).
        picks: how many to pick.
    """
    batch = torch.arange(len(apart), device=apart.device)
    own = torch.eye(apart.shape[1], dtype=torch.bool, device=apart.device)
    nobody = ~there
    nearest = apart.masked_fill(own | nobody[:, None], torch.inf).amin(-1).masked_fill(nobody, -torch.inf)
    apart.masked_fill_(own | nobody[:, None], -torch.inf)  # a pick, and what does not exist, is never picked (again)
    order = []
    for i in range(picks):
        order.append(nearest.argmax(-1))
        to_pick = apart[batch, order[-1]]
        nearest = to_pick if i == 0 else torch.minimum(nearest, to_pick)
    place = torch.full_like(there, apart.shape[1], dtype=torch.int64)
    if order:
        turn = torch.arange(picks, device=apart.device).expand(len(apart), -1)
        place.scatter_reduce_(1, torch.stack(order, 1), turn, "amin")
    return place
