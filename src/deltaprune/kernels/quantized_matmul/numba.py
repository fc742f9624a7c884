"""The product on CPUs: few rows read the numbers at memory speed, many multiply a widened copy of the matrix.

The copy lies in memory that the layers share, so that it is made in the cache where the matrix is small enough. Up to
64 bfloat16 rows, on processors whose products are ours (see `matmul`), meet a few widened rows at a time, which never
leave the cache.
"""

import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import compiled, launch, rows
from deltaprune.kernels._numba_pairs import MOST, pairs_product, work_rooms
from deltaprune.kernels._numba_products import round_rows, stretch
from deltaprune.kernels._numba_quantized import operand, product
from deltaprune.kernels._numba_vectors import BYTES, WIDTH
from deltaprune.kernels._numba_widen import widen_matrix
from deltaprune.kernels.matmul.numba import PAIRED, pairs_of
from deltaprune.kernels.quantized import Quantized, flat, operands

MOST_ROWS = {  # of bfloat16; with more, the matrix is widened
    "int8": 15 if PAIRED else 40,
    "int4": (22 if PAIRED else 48) if BYTES else 24,
}


@compiled(parallel=True)
def _matmul(weight, width, x, batch, out, height, threads):
    """All flat: `x (batch, width)` and `out (batch, height)` float32, the latter rounded to the rows' type."""
    read, unit = operand(x, weight, width, batch), stretch(height, batch, threads)
    for block in prange((height + unit - 1) // unit):
        first = block * unit
        last = min(height, first + unit)
        product(weight, width, first, last, read, width, batch, out, height)
        round_rows(out, height, batch, first, last, weight[2][0])


def multiply(x: Tensor, weight: Quantized, out: Tensor) -> Tensor:
    """See `quantized_matmul`."""
    (batch, width), height = x.shape, len(weight)
    if 0 in (batch, height):
        return out
    many = x.dtype == torch.bfloat16 and batch > MOST_ROWS[weight.form]
    if many and PAIRED and batch <= MOST and out.dtype == x.dtype:
        return _in_pairs(x, weight, out)
    if many:
        whole = torch.mm(x.detach(), widened(weight).t(), out=out if out.dtype == x.dtype else None)
        return out if whole is out else out.copy_(whole)
    into = out if out.dtype == torch.float32 and out.is_contiguous() else torch.empty(batch, height)
    given = x.detach().float().contiguous().view(-1).numpy()
    sizes = batch, into.view(-1).numpy(), height, torch.get_num_threads()
    launch(_matmul, weight.numel() // 16, operands(weight), width, given, *sizes)
    return out if into is out else out.copy_(into)


def _in_pairs(x: Tensor, weight: Quantized, out: Tensor) -> Tensor:
    """bfloat16, of as many rows as `pairs_product` takes."""
    (batch, width), height = x.shape, len(weight)
    packed = empty("matmul.packed", (-(-batch // WIDTH) * WIDTH * width // 2,), torch.int32).numpy()
    given, rooms = (*rows(pairs_of(x)), batch, width // 2, packed), work_rooms(width, widens=True)
    work = weight.numel() * (1 + batch // 4) // 16
    launch(pairs_product, work, flat(weight), width // 2, *given, rooms, rows(out)[0], height)
    return out


def widened(weight: Quantized) -> Tensor:
    """The matrix in its `dtype`; within `reuse`, valid until the next one is widened."""
    whole = empty("quantized.widened", weight.shape, weight.dtype)
    into = (whole.view(torch.int16) if whole.dtype == torch.bfloat16 else whole).view(-1).numpy()
    launch(widen_matrix, weight.numel() // 8, *flat(weight), *weight.shape, into)
    return whole


BACKEND = Backend(
    op="quantized_matmul",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=multiply,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
