"""The check of packed sequences that both ops share."""

from itertools import pairwise

from jaxtyping import Int32
from torch import Tensor


def check_boundaries(cu_seqlens: Int32[Tensor, "S_plus_1"], length: int) -> None:
    """Check on the CPU, where reading is free, that boundaries ascend from 0 to the number of rows."""
    if cu_seqlens.device.type != "cpu":
        return
    bounds = cu_seqlens.tolist()
    if bounds[0] != 0 or bounds[-1] != length or any(a > b for a, b in pairwise(bounds)):
        raise ValueError(f"`cu_seqlens` must ascend from 0 to the number of rows, {length}; it is {bounds}.")
