"""What the scans on CPUs share: blocks of channels, a few rows at a time, read into float32 where they are used."""

import numpy as np

from deltaprune.kernels._numba import compiled, full_width, narrow, softplus, sum_lanes, widen
from deltaprune.kernels._numba_turn import turn
from deltaprune.kernels._numba_vectors import WIDTH

GROUP = 2  # blocks that one unit of work runs one after the other
LANES = 64  # channels per block; with 32 the constants of `exp` are loaded as often as they are used
ROWS = 32  # tokens that are opened together


@compiled()
def turn_in(states, first, width, into):
    """`states (channels, N)`, `width` of its rows -> the columns of `into (N, LANES)`."""
    order = states.shape[1]
    if order == WIDTH and width == LANES:
        for i in range(0, LANES, WIDTH):
            turn(states, (first + i) * order, order, WIDTH, into, i, LANES)
    else:
        for i in range(width):
            for n in range(order):
                into[n, i] = states[first + i, n]


@compiled()
def turn_out(columns, states, first, width):
    """The inverse."""
    order = states.shape[1]
    if order == WIDTH and width == LANES:
        for i in range(0, LANES, WIDTH):
            turn(columns, i, LANES, WIDTH, states, (first + i) * order, order)
    else:
        for i in range(width):
            for n in range(order):
                states[first + i, n] = columns[n, i]


@compiled()
def scaled(numbers, factor):
    """All numbers of a matrix times a factor, in place."""
    full_width()
    for n in range(numbers.shape[0]):
        for i in range(numbers.shape[1]):
            numbers[n, i] *= factor


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
