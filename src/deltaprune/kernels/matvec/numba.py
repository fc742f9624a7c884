"""The product on CPUs: parallel over rows of the matrix, which is read once, as fast as memory gives it.

oneDNN, torch's own, takes 1.6 times as long for a single row, and in float32 twice as long for up to 64.
"""

import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._numba import compiled, launch, rows
from deltaprune.kernels._numba_products import multiply

MOST_ROWS = {torch.float32: 64, torch.bfloat16: 6}  # of x; with more, oneDNN is as fast or faster
BLOCK = 16  # rows of the matrix per unit of work


@compiled(parallel=True)
def _matvec(weight, step, x, batch, count, out, height):
    """All flat: `x (batch, count)` and `out (batch, height)` float32."""
    for block in prange((height + BLOCK - 1) // BLOCK):
        first = block * BLOCK
        multiply(weight, step, first, min(height, first + BLOCK), x, count, batch, count, out, height)


def matvec(x: Tensor, weight: Tensor) -> Tensor:
    """See `matvec`; more than `MOST_ROWS` rows are left to torch."""
    if not 0 < len(x) <= MOST_ROWS[x.dtype] or 0 in weight.shape:
        return x @ weight.t()
    (batch, count), height = x.shape, len(weight)
    out = torch.empty(batch, height)
    given = x.detach().float().contiguous().numpy().reshape(-1)
    launch(_matvec, weight.numel() // 16, *rows(weight), given, batch, count, out.numpy().reshape(-1), height)
    return out.to(x.dtype)


BACKEND = Backend(
    op="matvec",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=matvec,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
