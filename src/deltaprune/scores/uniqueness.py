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

    Shape (T,), range [-1, 1] for visual rows, 2 for text rows. Sees text: no. Source: ours, as
    a control for DART: the same idea without pivots.
    """

    paper: ClassVar[str] = "ours, a control for DART (arXiv 2502.11494)"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"hidden"})

    @property
    def sees_text(self) -> bool:
        return False

    def __call__(self, tokens: Rows, trace: Trace) -> Float[Tensor, "T"]:
        assert trace.hidden is not None
        scores = torch.full((len(tokens.x),), 2.0, device=tokens.x.device)
        for (start, _), live in zip(tokens.spans, tokens.n_visual, strict=True):
            if live:
                unit = F.normalize(trace.hidden[start : start + live].float(), dim=-1)
                scores[start : start + live] = -(unit @ unit.mean(0))
        return flag_broken(scores, trace.hidden)
