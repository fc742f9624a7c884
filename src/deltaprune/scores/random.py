"""Random: the baseline for every score."""

from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows, on_device
from deltaprune.scores import registry
from deltaprune.steps import Score
from deltaprune.trace import Trace

MASK = 0x7FFFFFFF


Whole = TypeVar("Whole", int, Tensor)


def _mix(h: Whole) -> Whole:
    """One round of a 31-bit integer hash (xor-shift, odd multiplier) of each number; products stay below 2**62."""
    h = ((h ^ (h >> 16)) * 0x45D9F3B) & MASK
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & MASK
    return h ^ (h >> 16)


@registry.register("random")
@dataclass(frozen=True)
class Random(Score):
    """s_j = a hash of (seed, the image's key, the token's original index), spread evenly.

    It does not depend on the batch, the device or what was pruned before, so a batch gives what its samples give alone.

    Shape (T,), range [0, 1). Sees text: no. Source: the paper, Table 4, first row.
    """

    paper: ClassVar[str] = "DTP, Table 4, first row"

    seed: int = 0

    needs = frozenset()
    sees_text = False

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        image = _mix((rows.key & MASK) ^ _mix(self.seed & MASK))
        lengths = on_device(rows.lengths, image.device)
        h = torch.repeat_interleave(image, lengths, output_size=len(rows.x)) + rows.origin
        return (_mix(h) >> 7).float() / 2**24
