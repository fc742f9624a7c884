"""What the scans on CPUs share: blocks of channels, a few rows at a time, read into float32 where they are used."""

import numpy as np

from deltaprune.kernels._numba import compiled, full_width, narrow, softplus, sum_lanes, widen

GROUP = 2  # blocks that one unit of work runs one after the other
LANES = 64  # channels per block; with 32 the constants of `exp` are loaded as often as they are used
ROWS = 32  # tokens that are opened together


@compiled()
def open_rows(us, ds, shift, u, u_base, u_step, dt, dt_base, dt_step, count, width):
    """Rows of u, dt -> Δ u in `us`, Δ in `ds`, both (ROWS, LANES) float32; a block that is narrower than LANES."""
    full_width()
    for t in range(count):
        at, dt_at = np.uintp(u_base + t * u_step), np.uintp(dt_base + t * dt_step)
        for i in range(width):
            ds[t, i] = softplus(widen(dt[dt_at + np.uintp(i)]) + shift[i])
            us[t, i] = ds[t, i] * widen(u[at + np.uintp(i)])


@compiled()
def write_rows(source, into, base, step, count, width):
    """`source (ROWS, LANES)` -> rows of `into`, in its type."""
    for t in range(count):
        at = np.uintp(base + t * step)
        if width == LANES:
            for i in range(LANES):
                into[at + np.uintp(i)] = narrow(source[t, i], into[0])
        else:
            for i in range(width):
                into[at + np.uintp(i)] = narrow(source[t, i], into[0])


@compiled()
def sum_block(delta, count, into, start):
    """Sums over the lanes of a block."""
    lane = np.empty(LANES, np.float32)
    for t in range(count):
        for i in range(LANES):
            lane[i] = delta[t, i]
        into[start + t] = sum_lanes(lane)


@compiled()
def mean_of_blocks(sums, channels, into):
    """Block sums (blocks, T) -> means over all channels (T,), block after block."""
    total = np.zeros(len(into))
    for block in range(len(sums)):
        for t in range(len(into)):
            total[t] += sums[block, t]
    for t in range(len(into)):
        into[t] = total[t] / channels
