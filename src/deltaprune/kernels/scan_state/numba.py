"""The last state on CPUs: cut up as `selective_scan`'s numba backend is, with the same operations in the same order.

Hence the same bits, alone or in a batch, in one piece or continued from a state, and on any number of threads.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._numba import compiled, launch, rows
from deltaprune.kernels._numba_blocks import (
    GROUP,
    LANES,
    ROWS,
    mean_of_blocks,
    open_rows,
    scaled,
    sum_block,
    turn_in,
    turn_out,
    write_rows,
)
from deltaprune.kernels._numba_lines import LOG2E
from deltaprune.kernels._numba_scan import open_to_write, write_state
from deltaprune.kernels.scan_state._state import ScanState
from deltaprune.kernels.selective_scan._scan import untouched


@compiled()
def _block(room, fixed, first, start, stop, u, u_step, dt, dt_step, A, B, bias, state, delta, sums):
    """One sequence, rows start .. stop, of the channels first .. first + LANES.

    `room (2, ROWS, LANES)` and `fixed (2, N, LANES)` are work space.
    """
    channels = len(A)
    width = min(LANES, channels - first)
    if width < LANES:  # what the block before left must not reach the lanes beyond the last channel: their Δ is 0
        room[:], fixed[:] = 0, 0
    a, h = fixed[0], fixed[1]
    shift = np.zeros(LANES, np.float32)
    for i in range(width):
        shift[i] = bias[first + i]
    turn_in(A, first, width, a)
    scaled(a, LOG2E)
    turn_in(state, first, width, h)
    us, ds = room[0], room[1]
    for t0 in range(start, stop, ROWS):
        count = min(ROWS, stop - t0)
        u_at, dt_at = t0 * u_step + first, t0 * dt_step + first
        if width == LANES:
            open_to_write(us, ds, shift, u, u_at, u_step, dt, dt_at, dt_step, count)
        else:
            open_rows(us, ds, shift, u, u_at, u_step, dt, dt_at, dt_step, count, width)
        if len(delta) > 0:
            write_rows(ds, delta, t0 * channels + first, channels, count, width)
        if len(sums) > 0:
            sum_block(ds, count, sums, t0)
        write_state(h, a, ds, us, B, t0, count)
    turn_out(h, state, first, width)


@compiled(parallel=True)
def _scan(u, u_step, dt, dt_step, A, B, bias, cu, state, delta, sums):
    """`sums` is (blocks, T), or (blocks, 0) when nobody wants the mean."""
    sequences = len(cu) - 1
    blocks = sums.shape[0]
    groups = (blocks + GROUP - 1) // GROUP
    for unit in prange(groups * sequences):
        group, s = unit // sequences, unit % sequences
        room = np.zeros((2, ROWS, LANES), np.float32)
        fixed = np.zeros((2, A.shape[1], LANES), np.float32)
        for block in range(group * GROUP, min(blocks, (group + 1) * GROUP)):
            _block(
                room, fixed, block * LANES, cu[s], cu[s + 1], u, u_step, dt, dt_step, A, B, bias,
                state[s], delta, sums[block],
            )  # fmt: skip


def scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    dt_bias: Tensor,
    cu_seqlens: Tensor,
    initial_state: Tensor | None,
    extras: frozenset[str],
) -> ScanState:
    """See `scan_state`."""
    (length, channels), order = u.shape, A.shape[1]
    state = untouched(u, A, len(cu_seqlens) - 1, initial_state).detach().contiguous()
    delta = torch.empty((length if "delta" in extras else 0, channels))
    mean = torch.empty(length if "delta_mean" in extras else 0)
    sums = torch.empty((-(-channels // LANES), len(mean)))
    weights = (w.detach().float().contiguous().numpy() for w in (A, B, dt_bias))
    launch(
        _scan, u.numel() * order, *rows(u), *rows(dt), *weights, cu_seqlens.numpy(),
        state.numpy(), delta.numpy().reshape(-1), sums.numpy(),
    )  # fmt: skip
    mean_of_blocks(sums.numpy(), channels, mean.numpy())
    filled = {"delta": delta, "delta_mean": mean}
    return ScanState(state, **{name: filled[name] for name in extras})


BACKEND = Backend(
    op="scan_state",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=scan,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
