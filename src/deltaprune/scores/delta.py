"""Delta: the paper's score, Mamba's own step size."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("delta")
@dataclass(frozen=True)
class Delta(Score):
    """s_j = mean over channels d of Delta_{j,d} (eq. 6), with Delta = softplus(dt + bias) > 0.

    A large step writes the token strongly into the state; a small one lets the state pass by. The recurrence is causal
    and the image comes first, so the score of a visual token does not depend on the question.

    Shape (T,), range (0, inf). Sees text: no. Source: the paper, eq. 6. Prior art: the same mean ranks tokens in MTR
    (arXiv 2507.14042), the L2 norm in DeciMamba (arXiv 2406.14528), and MaMe takes Delta for how informative a token
    is (arXiv 2508.13599).
    """

    paper: ClassVar[str] = "DTP, eq. 6; before it MTR (arXiv 2507.14042)"

    needs = frozenset({"step"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["step"]
