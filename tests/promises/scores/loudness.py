"""Loudness: the length of the residual row."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace


@registry.register("loudness")
@dataclass(frozen=True)
class Loudness(Score):
    """s_j = ||hidden_j||. Shape (T,), range [0, inf). Sees text: no. Source: a test."""

    paper: ClassVar[str] = "a test"

    needs = frozenset({"hidden"})
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return trace["hidden"].float().norm(dim=-1)
