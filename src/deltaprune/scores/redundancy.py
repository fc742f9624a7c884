"""Redundancy: a bipartite matching; rows that have a similar row on the other side are dropped first."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.scores._ranks import flag_broken
from deltaprune.scores.uniform import GOLDEN
from deltaprune.similarity import cosine
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("redundancy")
@dataclass(frozen=True)
class Redundancy(Score):
    """s_j = minus the largest cosine similarity of row j to a target; the targets, half of the image, stay.

    Without `importance` the sides alternate and every second visual row is a target (ToMe, arXiv 2210.09461; in Mamba,
    R-MeeTo, arXiv 2412.12496). With it the more important half are the targets (UTRC, arXiv 2410.14725, eqs. 6-7). Of
    an odd number of rows, the smaller half. `Merge(into="half")` folds what goes into the most similar target.

    Similarity is that of the residual rows; R-MeeTo matches by x, B, C or Delta, ToMe by keys.

    Shape (T,), range [-1, 1], targets (2, 3], text rows 4. Sees text: no, unless `importance` does. Source: as above.

    Both papers drop at most half at a time. A stage that keeps less than half goes on among the targets: the least
    important go first, or, where the sides alternate, those that leave the rest evenly spread.
    """

    paper: ClassVar[str] = "ToMe (arXiv 2210.09461); R-MeeTo (arXiv 2412.12496); UTRC (arXiv 2410.14725, eqs. 6-7)"

    importance: Score | None = None

    needs = frozenset()
    sees_text = False

    def __post_init__(self) -> None:
        if self.importance is not None:
            object.__setattr__(self, "needs", self.importance.needs)
            object.__setattr__(self, "also", self.importance.also)
            object.__setattr__(self, "sees_text", self.importance.sees_text)

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        important = None if self.importance is None else self.importance(rows, trace)
        device = rows.x.device
        scores = torch.full((len(rows.x),), 4.0, device=device)
        for b, live in enumerate(rows.n_visual):
            image = rows.visual_rows(b)
            ranked = alternate(live, device) if important is None else best_first(important[image])
            targets, rest = ranked[: live // 2], ranked[live // 2 :]
            values = torch.zeros(live, device=device)
            if live > 1:
                x = rows.x[image]
                values[rest] = -cosine(x[rest], x[targets]).amax(-1)
                values[targets] = 3 - torch.arange(len(targets), device=device) / len(targets)
            scores[image] = values
        return flag_broken(scores, rows.x, important)


def best_first(values: Float[Tensor, "P"]) -> Int[Tensor, "P"]:
    """Indices by descending value; ties go to the lower index."""
    return torch.sort(values, descending=True, stable=True).indices


def alternate(n: int, device: torch.device) -> Int[Tensor, "P"]:
    """Odd places, any first few of which are evenly spread, then even places."""
    places = torch.arange(n, device=device)
    odd = places[1::2]
    spread = best_first((places[: len(odd)].double() * GOLDEN).frac())
    return torch.cat([odd[spread], places[::2]])
