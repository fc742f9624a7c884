"""HiddenAttention: the implicit attention of the last token to each token (eqs. 3-5)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels import hidden_attention
from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.scores._heads import has_heads, paid
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("hidden_attention")
@dataclass(frozen=True)
class HiddenAttention(Score):
    """s_j = mean over channels d of |K_{L,j,d}|, the last row of the implicit attention matrix.

        K_{L,j,d} = sum_n C_{L,n} exp(A_{d,n} S_{j,d}) Delta_{j,d} B_{j,n},   S_{j,d} = sum_{k>j} Delta_{k,d}

    A is diagonal and negative, so no exponent is positive and nothing is divided; O(L E N) work, no L x L matrix, in a
    kernel whose error is documented, `kernels.hidden_attention`. It corresponds to FastV's score, the attention of the
    last token (arXiv 2403.06764). It is computed here and not in a layer, because it depends on the last row, which
    comes with the question, after the image.

    For a layer with heads it is the same row of its own recurrence, the mean over heads. Gated DeltaNet erases as it
    writes; there the row is computed in chunks of rows from the last one, see `_heads.paid`.

    Shape (T,), range [0, inf). Sees text: yes, the last token is the question's. Source: the paper, eqs. 3-5, after Ali
    et al. (arXiv 2403.01590).
    """

    paper: ClassVar[str] = "DTP, eqs. 3-5, after Ali et al. (arXiv 2403.01590)"

    needs = frozenset({"delta", "decay", "key", "query"})
    also = frozenset({"erase"})
    sees_text = True

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        if has_heads(trace):
            told = [paid(trace, slice(a, b)) for a, b in rows.spans if b > a]
            return torch.cat(told) if told else trace["decay"].new_zeros(0)
        delta, decay, key, query = (trace[role] for role in ("delta", "decay", "key", "query"))
        told = [hidden_attention(delta[a:b], decay, key[a:b], query[b - 1]) for a, b in rows.spans if b > a]
        return torch.cat(told) if told else delta.new_zeros(0)
