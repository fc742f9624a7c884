"""Products on AMD's processors with 512-bit vectors; all else is torch's.

float32, for any number of rows: on Zen 5 it takes 0.37 of the time of MKL, torch's own, for 24 rows, and less than it
for hundreds; MKL seems to use such vectors on Intel's processors only.

bfloat16, for few rows of large matrices, where pairs are multiplied (Zen 4 and later): on Zen 5 it takes 0.6 to 0.8 of
oneDNN's time for 8 to 64 rows, in oneDNN's order of summing. Elsewhere oneDNN uses AMX where there is some.
"""

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import launch, rows
from deltaprune.kernels._numba_pairs import MOST, SUMMED, pairs_product, work_rooms
from deltaprune.kernels._numba_products import matrix_product
from deltaprune.kernels._numba_vectors import PAIRS, PROCESSOR, TILES, WIDE, WIDTH
from deltaprune.kernels.matmul import reference

OURS = WIDE and PROCESSOR.startswith("znver")  # by processor and type, never by the number of rows
PAIRED = OURS and PAIRS and not TILES  # bfloat16; by the number of rows as well, since the bits are the same
LEAST = 2**22  # numbers of a matrix; with a smaller one oneDNN is as fast
NARROW = 2 * SUMMED  # numbers of a row; up to here oneDNN sums in another order


def matmul(x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """See `matmul`; in bfloat16 many rows, and few of a matrix that is small, narrow or of odd width, go to torch."""
    (count, width), height = x.shape, len(weight)
    few = count <= MOST and weight.numel() >= LEAST and width > NARROW and width % 2 == 0
    paired = PAIRED and x.dtype == torch.bfloat16 and few
    if not (paired or (OURS and x.dtype == torch.float32)) or 0 in (count, width, height):
        return reference.matmul(x, weight, out)
    out = torch.empty(count, height, dtype=x.dtype) if out is None else out
    if paired:
        return _paired(x, weight, out)
    work = weight.numel() * (1 + count // 4) // 16
    into = out.view(-1).numpy(), height, torch.get_num_threads()
    launch(matrix_product, work, *rows(weight), *rows(x), count, width, *into)
    return out


def _paired(x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """bfloat16."""
    (count, width), height = x.shape, len(weight)
    packed = empty("matmul.packed", (-(-count // WIDTH) * WIDTH * width // 2,), torch.int32).numpy()
    to = out.view(torch.int16).view(-1).numpy()
    work = weight.numel() * (1 + count // 4) // 16
    given, rooms = (*rows(pairs_of(weight)), *rows(pairs_of(x))), work_rooms(width, widens=False)
    launch(pairs_product, work, *given, count, width // 2, packed, rooms, to, height)
    return out


def pairs_of(x: Tensor) -> Tensor:
    """Rows of bfloat16 as pairs, int32; copied where they do not lie so."""
    x = x.detach()
    fits = x.stride(1) == 1 and x.storage_offset() % 2 == 0 and (x.stride(0) % 2 == 0 or len(x) == 1)
    return (x if fits else x.contiguous()).view(torch.int32)


BACKEND = Backend(
    op="matmul",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=matmul,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
