"""InputNorm: how strongly a token writes into the state, measured by B alone (Table 3, B_t)."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("input")
@dataclass(frozen=True)
class InputNorm(Score):
    """s_j = L2 norm over states of B_j. The paper does not say how states are reduced; B is signed.

    Shape (T,), range [0, inf). Sees text: no. Source: the paper, Table 3, B_t.
    """

    paper: ClassVar[str] = "DTP, Table 3, B_t"

    needs = frozenset({"key"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["key"].float().norm(dim=-1)
