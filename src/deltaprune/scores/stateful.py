"""Stateful: what the question's readouts would find of each token, decay left out."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("stateful")
@dataclass(frozen=True)
class Stateful(Score):
    """s_j = mean over text rows t of |C_t . B_j|, times the mean over channels of Delta_j.

    A query-conditioned implicit attention without the decay: our reading of the paper, whose exact formula was not at
    hand. A sample without text is ranked by Delta alone.

    Shape (T,), range [0, inf). Sees text: yes. Source: Stateful Token Reduction (arXiv 2603.00198).
    """

    paper: ClassVar[str] = "Stateful Token Reduction (arXiv 2603.00198)"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"delta_mean", "B", "C"})

    @property
    def sees_text(self) -> bool:
        return True

    def __call__(self, tokens: Rows, trace: Trace) -> Float[Tensor, "T"]:
        assert trace.delta_mean is not None
        assert trace.B is not None
        assert trace.C is not None
        scores = []
        for (a, b), n_visual in zip(tokens.spans, tokens.n_visual, strict=True):
            found = torch.ones(b - a, device=trace.B.device)
            if a + n_visual < b:  # visual rows stand first, text after them
                found = (trace.C[a + n_visual : b].float() @ trace.B[a:b].float().T).abs().mean(0)
            scores.append(found * trace.delta_mean[a:b])
        return torch.cat(scores)
