"""DeltaNorm: DeciMamba's reduction of the step size."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("delta_norm")
@dataclass(frozen=True)
class DeltaNorm(Score):
    """s_j = L2 norm over channels of Delta_j.

    Shape (T,), range (0, inf). Sees text: no. Source: DeciMamba (arXiv 2406.14528).

    DeciMamba drops inside a layer, between convolution and scan; here the layer runs full and the next one is shorter,
    as for every score.
    """

    paper: ClassVar[str] = "DeciMamba (arXiv 2406.14528)"

    needs = frozenset({"delta"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["delta"].norm(dim=-1)
