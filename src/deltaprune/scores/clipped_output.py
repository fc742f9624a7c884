"""ClippedOutput: the positive part of a token's scan output."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("clipped_output")
@dataclass(frozen=True)
class ClippedOutput(Score):
    """s_j = mean over channels d of max(0, y_{j,d}), y the scan's output before the gate (D u included).

    Shape (T,), range [0, inf). Sees text: no. Source: ToP-ViM (arXiv 2409.18962) and UTRC (arXiv 2410.14725, eq. 5).
    ToP-ViM's hidden-state alignment is left out: a pruned row leaves the recurrence with its decay.
    """

    paper: ClassVar[str] = "ToP-ViM (arXiv 2409.18962); UTRC (arXiv 2410.14725, eq. 5)"

    needs = frozenset({"output"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["output"].float().clamp(min=0).mean(-1)
