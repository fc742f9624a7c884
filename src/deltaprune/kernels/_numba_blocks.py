"""What the scans on CPUs share: blocks of channels, staged a few rows at a time as float32."""

import numpy as np

from deltaprune.kernels._numba import compiled, narrow, sum_lanes, widen

GROUP = 2  # blocks that one unit of work runs one after the other
LANES = 64  # channels per block; with 32 the constants of `exp` are loaded as often as they are used
ROWS = 32  # tokens whose inputs are staged together
OFF = np.float32(-1e4)  # a bias whose softplus is 0: the lanes beyond the last channel


@compiled()
def stage(into, source, base, step, count, width):
    """Rows of `source` -> `into (ROWS, LANES)` float32."""
    for t in range(count):
        at = np.uintp(base + t * step)
        if width == LANES:
            for i in range(LANES):
                into[t, i] = widen(source[at + np.uintp(i)])
        else:
            for i in range(width):
                into[t, i] = widen(source[at + np.uintp(i)])


@compiled()
def unstage(source, into, base, step, count, width):
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
