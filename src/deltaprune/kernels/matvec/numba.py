"""The product in bfloat16 on CPUs: parallel over rows of the matrix, which is read once, as fast as memory gives it.

oneDNN, torch's own, reads it at half that speed when there is a single row to multiply.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._numba import compiled, launch, rows, widen

MOST_ROWS = 4  # of x; with more, arithmetic takes longer than reading, and oneDNN is faster
BLOCK = 16  # rows of the matrix per unit of work


@compiled(reorders=True)
def _dot(weight, at, x, row):
    """A row of the matrix times a row of `x`, which is float32."""
    total = np.float32(0)
    for i in range(x.shape[1]):
        total += widen(weight[at + np.uintp(i)]) * x[row, i]
    return total


@compiled(parallel=True)
def _matvec(weight, step, x, out):
    """`out (B, n)` float32."""
    count = out.shape[1]
    for block in prange((count + BLOCK - 1) // BLOCK):
        for r in range(block * BLOCK, min(count, (block + 1) * BLOCK)):
            for b in range(len(x)):
                out[b, r] = _dot(weight, np.uintp(r * step), x, b)


def matvec(x: Tensor, weight: Tensor) -> Tensor:
    """See `matvec`; more than `MOST_ROWS` rows are left to torch."""
    if not 0 < len(x) <= MOST_ROWS or 0 in weight.shape:
        return x @ weight.t()
    out = torch.empty(len(x), len(weight))
    launch(_matvec, weight.numel() // 16, *rows(weight), x.detach().float().contiguous().numpy(), out.numpy())
    return out.to(x.dtype)


BACKEND = Backend(
    op="matvec",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=matvec,
    dtypes=(torch.bfloat16,),
    priority=10,
)
