"""LastAttention: FastV's score, the attention that the last token pays."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("last_attention")
@dataclass(frozen=True)
class LastAttention(Score):
    """s_j = mean over heads of softmax(q_L . k_j / sqrt(width)), the attention that the last row L pays to row j.

    An attention layer computes it for that one row only, so that fast attention kernels can be used. A stage reads the
    nearest attention layer below it. Mamba has none; `HiddenAttention` is the counterpart there.

    Shape (T,), range [0, 1]. Sees text: yes, the last token is the question's. Source: FastV (arXiv 2403.06764).
    """

    paper: ClassVar[str] = "FastV, Chen et al., ECCV 2024 (arXiv 2403.06764)"

    needs = frozenset({"attention"})
    sees_text = True

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["attention"]
