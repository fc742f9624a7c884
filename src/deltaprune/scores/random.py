"""Random: the floor that every score has to beat."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.scores import registry
from deltaprune.stages import Score
from deltaprune.tokens import Tokens, Trace

MASK = 0x7FFFFFFF


def _mix(h: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """One round of a 31-bit integer hash (xor-shift, odd multiplier); products stay below 2**62."""
    h = ((h ^ (h >> 16)) * 0x45D9F3B) & MASK
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & MASK
    return h ^ (h >> 16)


@registry.register("random")
@dataclass(frozen=True)
class Random(Score):
    """s_j = a hash of (seed, the image's key, the token's original index), spread evenly.

    It depends neither on the batch nor on the device nor on what was pruned before, so a batch equals a loop.

    Shape (T,), range [0, 1). Sees text: no. Source: the paper, Table 4, first row.
    """

    seed: int = 0

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    @property
    def sees_text(self) -> bool:
        return False

    def __call__(self, tokens: Tokens, trace: Trace) -> Float[Tensor, "T"]:
        lengths = torch.tensor(tokens.lengths, device=tokens.x.device)
        key = torch.repeat_interleave(tokens.key & MASK, lengths, output_size=sum(tokens.lengths))
        h = _mix(_mix(_mix(torch.full_like(key, self.seed & MASK)) ^ key) + tokens.origin)
        return (h >> 7).float() / 2**24
