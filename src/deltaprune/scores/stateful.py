"""Stateful: how strongly the question's readouts respond to each token, without decay."""

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

    A query-conditioned implicit attention without the decay. It is our interpretation: the paper's exact formula was
    not available. A sample without text is ranked by Delta alone. If a layer has heads, |C_t . B_j| is the mean over
    the groups of C and B, and Delta_j the mean over heads.

    Shape (T,), range [0, inf). Sees text: yes. Source: Stateful Token Reduction (arXiv 2603.00198).
    """

    paper: ClassVar[str] = "Stateful Token Reduction (arXiv 2603.00198)"

    needs = frozenset({"step", "key", "query"})
    sees_text = True

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        scores = []
        for b, (start, end) in enumerate(rows.spans):
            found, text = torch.ones(end - start, device=rows.x.device), rows.text_rows(b)
            if len(text):
                query, key = trace["query"][text].float(), trace["key"][start:end].float()
                query = query.flatten(1).unflatten(1, (trace["query"].shape[1:-1].numel(), -1))  # (T, G, N)
                found = torch.einsum("tgn,jgn->jgt", query, key.unflatten(1, query.shape[1:])).abs().mean((1, 2))
            scores.append(found * trace["step"][start:end])
        return torch.cat(scores)
