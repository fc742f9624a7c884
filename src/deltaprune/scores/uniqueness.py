"""Uniqueness: keep what is unlike the rest of the image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.scores._ranks import flag_broken
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("uniqueness")
@dataclass(frozen=True)
class Uniqueness(Score):
    """s_j = minus the mean cosine similarity of visual row j to all visual rows, norm_f of the residual stream.

    The mean over all pairs needs no pair: it is the cosine to the sum of the unit rows.

    Shape (T,), range [-1, 1] for visual rows, 2 for text rows. Sees text: no. Source: ours, as a control
    for DART: the same idea without pivots.
    """

    paper: ClassVar[str] = "ours, a control for DART (arXiv 2502.11494)"

    needs = frozenset({"hidden"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        scores = torch.full((len(rows.x),), 2.0, device=rows.x.device)
        for b, live in enumerate(rows.n_visual):
            if live:
                image = rows.visual_rows(b)
                unit = F.normalize(trace["hidden"][image].float(), dim=-1)
                scores[image] = -(unit @ unit.mean(0))
        return flag_broken(scores, trace["hidden"])
