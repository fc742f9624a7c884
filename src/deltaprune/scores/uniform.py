"""Uniform: tokens spread evenly over the image, independent of its content."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace

GOLDEN = 0.6180339887498949  # (sqrt(5) - 1) / 2


@registry.register("uniform")
@dataclass(frozen=True)
class Uniform(Score):
    """s_j = frac(j * golden ratio), j the original index.

    Any share that is kept lies evenly: the gaps between survivors take at most three lengths (three-gap theorem), which
    a fixed stride only does for some shares.

    Shape (T,), range [0, 1). Sees text: no. Source: ours; the usual stride, for any share.
    """

    paper: ClassVar[str] = "ours: an even spread for any share"

    needs = frozenset()
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        return (rows.origin.double() * GOLDEN).frac().float()
