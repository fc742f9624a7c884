"""OutputNorm: how much a token's scan output weighs (Table 3, y_t)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("output")
@dataclass(frozen=True)
class OutputNorm(Score):
    """s_j = L2 norm over channels of y_j, the scan's output before the gate (D u included).

    The paper ranks by "y_t" and does not say how channels are reduced; y is signed, so a norm is taken.

    Shape (T,), range [0, inf). Sees text: no. Source: the paper, Table 3, y_t.
    """

    paper: ClassVar[str] = "DTP, Table 3, y_t"

    needs = frozenset({"output"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["output"].float().norm(dim=-1)
