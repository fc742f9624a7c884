"""The scan on CPUs: parallel over (block of channels, sequence), vectorised over the channels of a block.

A block's state (N, LANES), 4 KiB at N = 16, stays in the first-level cache for the whole sequence; nothing of size
(T, E, N) exists. One unit of work sees only its own sequence, row after row: the result is bit-equal alone or in a
batch, in one piece or continued from a state, and on any number of threads.
"""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import compiled, full_width, launch, narrow, rows, silu, widen
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
from deltaprune.kernels._numba_scan import open_to_read, read_state
from deltaprune.kernels.selective_scan._scan import Scan


@compiled()
def _skip(y, skip, u, base, step, count, width):
    """D u of rows of u -> `y (ROWS, LANES)` float32."""
    full_width()
    for t in range(count):
        at = np.uintp(base + t * step)
        for i in range(width):
            y[t, i] = skip[i] * widen(u[at + np.uintp(i)])


@compiled()
def _gate(y, z, z_base, z_step, out, base, step, count, width):
    """y silu(z) -> rows of `out`, in its type."""
    full_width()
    for t in range(count):
        at, to = np.uintp(z_base + t * z_step), np.uintp(base + t * step)
        if width == LANES:
            for i in range(LANES):
                out[to + np.uintp(i)] = narrow(y[t, i] * silu(widen(z[at + np.uintp(i)])), out[0])
        else:
            for i in range(width):
                out[to + np.uintp(i)] = narrow(y[t, i] * silu(widen(z[at + np.uintp(i)])), out[0])


@compiled()
def _block(
    room, fixed, first, start, stop, u, u_step, dt, dt_step, z, z_step, A, B, C, D, bias, out, state, delta, y, sums
):
    """One sequence, rows start .. stop, of the channels first .. first + LANES.

    `room (3, ROWS, LANES)` and `fixed (2, N, LANES)` are work space.
    """
    channels = len(A)
    width = min(LANES, channels - first)
    if width < LANES:  # what the block before left must not reach the lanes beyond the last channel: their Δ is 0
        room[:], fixed[:] = 0, 0
    a, h = fixed[0], fixed[1]
    skip, shift = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    for i in range(width):
        skip[i], shift[i] = D[first + i], bias[first + i]
    turn_in(A, first, width, a)
    scaled(a, LOG2E)
    turn_in(state, first, width, h)
    us, ds, ys = room[0], room[1], room[2]
    for t0 in range(start, stop, ROWS):
        count = min(ROWS, stop - t0)
        at = t0 * channels + first
        u_at, dt_at, z_at = t0 * u_step + first, t0 * dt_step + first, t0 * z_step + first
        if width == LANES:
            open_to_read(us, ds, ys, shift, skip, u, u_at, u_step, dt, dt_at, dt_step, z, z_at, z_step, count)
        else:
            open_rows(us, ds, shift, u, u_at, u_step, dt, dt_at, dt_step, count, width)
            _skip(ys, skip, u, u_at, u_step, count, width)
        if len(delta) > 0:
            write_rows(ds, delta, at, channels, count, width)
        if len(sums) > 0:
            sum_block(ds, count, sums, t0)
        read_state(h, a, ds, us, ys, B, C, t0, count)
        if len(y) > 0:
            write_rows(ys, y, at, channels, count, width)
        _gate(ys, z, z_at, z_step, out, at, channels, count, width)
    turn_out(h, state, first, width)


@compiled(parallel=True)
def scan_rows(u, u_step, dt, dt_step, z, z_step, A, B, C, D, bias, cu, out, state, delta, y, sums):
    """`sums` is (blocks, T), or (blocks, 0) when nobody wants the mean."""
    sequences = len(cu) - 1
    blocks = sums.shape[0]
    groups = (blocks + GROUP - 1) // GROUP
    for unit in prange(groups * sequences):
        group, s = unit // sequences, unit % sequences
        room = np.zeros((3, ROWS, LANES), np.float32)
        fixed = np.zeros((2, A.shape[1], LANES), np.float32)
        for block in range(group * GROUP, min(blocks, (group + 1) * GROUP)):
            _block(
                room, fixed, block * LANES, cu[s], cu[s + 1], u, u_step, dt, dt_step, z, z_step,
                A, B, C, D, bias, out, state[s], delta, y, sums[block],
            )  # fmt: skip


def scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    dt_bias: Tensor,
    cu_seqlens: Tensor,
    initial_state: Tensor | None,
    extras: frozenset[str],
) -> Scan:
    """See `selective_scan`."""
    (length, channels), order = u.shape, A.shape[1]
    sequences, blocks = len(cu_seqlens) - 1, -(-channels // LANES)
    out = empty("selective_scan.out", (length, channels), u.dtype)
    if initial_state is None:
        state = torch.zeros((sequences, channels, order))
    else:
        state = initial_state.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    delta, y = (torch.empty((length if name in extras else 0, channels)) for name in ("delta", "y"))
    mean = torch.empty(length if "delta_mean" in extras else 0)
    sums = torch.empty((blocks, len(mean)))
    weights = (w.detach().float().contiguous().numpy() for w in (A, B, C, D, dt_bias))
    results = out.view(torch.int16) if out.dtype == torch.bfloat16 else out
    launch(
        scan_rows, u.numel() * order, *rows(u), *rows(dt), *rows(z), *weights, cu_seqlens.numpy(),
        results.numpy().reshape(-1), state.numpy(), delta.numpy().reshape(-1), y.numpy().reshape(-1), sums.numpy(),
    )  # fmt: skip
    mean_of_blocks(sums.numpy(), channels, mean.numpy())
    filled = {"delta": delta, "delta_mean": mean, "y": y}
    return Scan(out, state, **{name: filled[name] for name in extras})


BACKEND = Backend(
    op="selective_scan",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=scan,
    dtypes=(torch.float32, torch.bfloat16),
    priority=10,
)
