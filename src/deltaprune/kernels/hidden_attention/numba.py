"""Hidden attention on CPUs: parallel over blocks of channels, vectorised over the channels of a block.

A block goes once through its sequence, from the last row to the first, with the steps that it has passed summed in
float64. One row's work stays in the first-level cache; one sum per block and row is all that leaves it.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._numba import compiled, exp, fma, full_width, launch, rows, sum_lanes

LANES = 128  # channels per block; with 32 the constants of `exp` are loaded as often as they are used: twice the time


@compiled()
def _take(now, source, base, width):
    """A row of a block -> `now (LANES,)`."""
    at = np.uintp(base)
    if width == LANES:
        for i in range(LANES):
            now[i] = source[at + np.uintp(i)]
    else:
        for i in range(width):
            now[i] = source[at + np.uintp(i)]


@compiled()
def _attend(now, after, passed, k, a, weight):
    """k = |Δ Σ_n weight_n exp(a_n S)| of one row, S = `passed`, which then takes the row in."""
    full_width()
    for i in range(LANES):
        after[i] = np.float32(passed[i])
        passed[i] += now[i]
        k[i] = np.float32(0)
    for n in range(len(a)):
        w = weight[n]
        for i in range(LANES):
            k[i] = fma(w, exp(a[n, i] * after[i]), k[i])
    for i in range(LANES):
        k[i] = abs(k[i] * now[i])


@compiled()
def _block(delta, step, first, A, weight, sums):
    """The channels first .. first + LANES: every row's |K|, summed over them."""
    channels, order = A.shape
    width = min(LANES, channels - first)
    room, passed, a = np.zeros((3, LANES), np.float32), np.zeros(LANES), np.zeros((order, LANES), np.float32)
    for i in range(width):  # lanes beyond the last channel have no steps, hence no part in the sum
        for n in range(order):
            a[n, i] = A[first + i, n]
    now, after, k = room[0], room[1], room[2]
    for t in range(len(sums) - 1, -1, -1):
        _take(now, delta, t * step + first, width)
        _attend(now, after, passed, k, a, weight[t])
        sums[t] = sum_lanes(k)


@compiled(parallel=True)
def _last_row(delta, step, A, weight, sums):
    """`weight` is (L, N), c B; `sums` (blocks, L)."""
    for block in prange(len(sums)):
        _block(delta, step, block * LANES, A, weight, sums[block])


def last_row(delta: Tensor, A: Tensor, B: Tensor, c: Tensor) -> Tensor:
    """See `hidden_attention`."""
    (length, channels), order = delta.shape, A.shape[1]
    sums = torch.empty(-(-channels // LANES), length)
    states, c, B = (x.detach().float().contiguous() for x in (A, c, B))
    launch(_last_row, delta.numel() * order, *rows(delta), states.numpy(), (c * B).numpy(), sums.numpy())
    # In float64, so that the order in which torch adds them does not show.
    return (sums.sum(0, dtype=torch.float64) / channels).float()


BACKEND = Backend(
    op="hidden_attention",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=last_row,
    dtypes=(torch.float32,),
    priority=10,
)
