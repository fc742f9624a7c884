"""Duplication: DART's rule, which keeps a few pivots and the tokens least similar to them."""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.checks import check_choice, check_flag, check_keep
from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.scores._ranks import flag_broken
from deltaprune.scores.random import Random
from deltaprune.selection import floor_count
from deltaprune.similarity import cosine
from deltaprune.steps import Score
from deltaprune.trace import Trace

ROLES = {"B": "key", "delta": "step", "x": "value", "random": "hidden"}  # pivots -> the role that chooses them


DART_PIVOTS = 4  # of the image, and as many of the text


def dart_quota(keep: float, n_image: int, exact: bool = False) -> int:
    """How many tokens each of DART's 8 pivots adds: floor(keep * n / 8) in its code; `exact`: enough for the budget."""
    if exact:
        return max(0, ceil((floor_count(keep, n_image) - DART_PIVOTS) / (2 * DART_PIVOTS)))
    return floor_count(keep / (2 * DART_PIVOTS), n_image)


@registry.register("duplication")
@dataclass(frozen=True)
class Duplication(Score):
    """s_j = minus the place at which DART would choose token j; the first, a pivot, has 0.

    The 4 strongest tokens of the image and the 4 strongest of the text are pivots. One after the other, the image's
    first and each side's strongest first, a pivot adds its quota of the image tokens left: those least similar to it
    (cosine of norm_f of the residual stream). What no pivot adds comes last, the least like any pivot first.

    Shape (T,), range (-n_visual, 0] for visual rows, 1 for text rows. Sees text: yes. Source: DART (arXiv 2502.11494).

    Attributes:
        keep: share of the image that is to be kept: the quota depends on it.
        pivots: what makes a token strong. DART takes the L1 norm of its key; under state-space duality B is the key
            and x the value, so "B" is the L1 norm of B_t, "x" that of the convolution's output, "delta" the mean of
            Delta, "random" a draw by image and place.
        exact_budget: quotas that fill the exact budget instead of DART's own, see `dart_quota`.

    Deviations from DART's code: pivots act in the order above, not in that of a Python set (the choices overlap with a
    Jaccard index of 0.84); ties go to the lower index;
    where candidates run out the quota is cut, and where the text has fewer than 4 tokens all of them are pivots.
    """

    paper: ClassVar[str] = "DART (arXiv 2502.11494)"

    keep: float = 0.5
    pivots: Literal["B", "delta", "x", "random"] = "B"
    exact_budget: bool = False

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_choice("pivots", self.pivots, tuple(ROLES))
        check_flag("exact_budget", self.exact_budget)
        object.__setattr__(self, "needs", frozenset({"hidden", ROLES[self.pivots]}))

    needs = frozenset({"hidden", "key"})
    sees_text = True

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        strength = self._strength(rows, trace)
        scores = torch.ones(len(rows.x), device=rows.x.device)
        for b, (live, total) in enumerate(zip(rows.n_visual, rows.n_image, strict=True)):
            if live:
                quota = dart_quota(self.keep, total, self.exact_budget)
                image = rows.visual_rows(b)
                both = torch.cat([image, rows.text_rows(b)])
                order = order_of_choice(trace["hidden"][both], strength[both], live, quota)
                scores[image] = -order.argsort().float()
        return flag_broken(scores, trace["hidden"], strength)

    def _strength(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        if self.pivots == "random":
            return Random()(rows, trace)
        told = trace[ROLES[self.pivots]].float()
        return told if told.ndim == 1 else told.abs().sum(-1)


def order_of_choice(
    hidden: Float[Tensor, "L d"], strength: Float[Tensor, "L"], n_visual: int, quota: int
) -> Int[Tensor, "P"]:
    """The image tokens of one sample (its first `n_visual` rows, at least one) in the order in which DART chooses."""
    image = strongest(strength[:n_visual])
    pivots = torch.cat([image, strongest(strength[n_visual:]) + n_visual])
    similarity = cosine(hidden[pivots], hidden[:n_visual])
    turns = torch.cat([similarity, similarity.amax(0, keepdim=True)])  # each pivot's, and one for what is left
    order, left = [image], n_visual - len(image)
    for i in range(len(turns)):
        turns.index_fill_(1, order[-1], torch.inf)  # who was chosen is not free
        number = left if i == len(pivots) else min(quota, left)
        order.append(torch.sort(turns[i], stable=True).indices[:number])
        left -= number
    return torch.cat(order)


def strongest(values: Float[Tensor, "_"]) -> Int[Tensor, "_"]:
    """The pivots of one side, strongest first; all of them where there are fewer than `DART_PIVOTS`."""
    return torch.sort(values, descending=True, stable=True).indices[:DART_PIVOTS]
