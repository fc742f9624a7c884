"""ReadoutNorm: how strongly a token reads from the state (Table 3, C_t)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("readout")
@dataclass(frozen=True)
class ReadoutNorm(Score):
    """s_j = L2 norm over states, and heads, of C_j. The paper does not say how states are reduced; C is signed.

    Shape (T,), range [0, inf). Sees text: no. Source: the paper, Table 3, C_t.
    """

    paper: ClassVar[str] = "DTP, Table 3, C_t"

    needs = frozenset({"query"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["query"].float().flatten(1).norm(dim=-1)
