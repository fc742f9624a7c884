"""The convolution's Triton kernel: one program per (tile of rows, block of channels), or per sequence's final state.

There is no recurrence: a row reads its W - 1 predecessors in `x`, or in the initial state where its sequence begins.
"""

import triton.language as tl

from deltaprune.kernels._triton_math import kernel, silu


@kernel
def _starts(cu, sequences, t, ROWS: tl.constexpr, BOUNDS: tl.constexpr):
    """The sequence of each row, and that sequence's first row: how many sequences end at or before it."""
    s = tl.zeros([ROWS], tl.int32)
    for first in range(0, sequences, BOUNDS):
        k = first + tl.arange(0, BOUNDS)
        end = tl.load(cu + 1 + k, mask=k < sequences, other=2147483647)
        s += tl.sum((end[None, :] <= t[:, None]).to(tl.int32), 1)
    s = tl.minimum(s, sequences - 1)  # rows beyond the last
    return s, tl.load(cu + s)


@kernel
def _earlier(x, past, s, row, start, e, valid, reaches, x_step, E, W: tl.constexpr):
    """Rows of x, or of the initial state (S, E, W - 1) where one `reaches` before its sequence's first."""
    new = valid & (row >= start)[:, None]
    now = tl.load(x + row.to(tl.int64)[:, None] * x_step + e[None, :], mask=new, other=0.0).to(tl.float32)
    if past is not None and reaches:
        at = (s.to(tl.int64)[:, None] * E + e[None, :]) * (W - 1) + (row - start)[:, None] + (W - 1)
        old = valid & (row < start)[:, None]
        now += tl.load(past + at, mask=old, other=0.0).to(tl.float32)
    return now


@kernel
def _convolve(
    x, weight, bias, cu, past, out, tile, e, T, E, x_step, sequences,
    W: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, BOUNDS: tl.constexpr,
):  # fmt: skip
    """A tile of the output."""
    t = tile * ROWS + tl.arange(0, ROWS)
    valid = (t < T)[:, None] & (e < E)[None, :]
    s, start = _starts(cu, sequences, t, ROWS, BOUNDS)
    reaches = tl.min(t - start, 0) < W - 1
    total = tl.zeros([ROWS, LANES], tl.float32) + tl.load(bias + e, mask=e < E, other=0.0).to(tl.float32)[None, :]
    for k in tl.static_range(W):  # pyright: ignore[reportGeneralTypeIssues]
        tap = tl.load(weight + e * W + k, mask=e < E, other=0.0).to(tl.float32)
        row = _earlier(x, past, s, t - (W - 1) + k, start, e, valid, reaches, x_step, E, W)
        total = tl.fma(tl.broadcast_to(tap[None, :], [ROWS, LANES]), row, total)
    to = out + t.to(tl.int64)[:, None] * E + e[None, :]
    tl.store(to, silu(total).to(out.dtype.element_ty), mask=valid)


@kernel
def _keep(x, cu, past, state, sequence, e, E, x_step, W: tl.constexpr):
    """The last W - 1 inputs of one sequence."""
    s = sequence + tl.arange(0, 1)
    start, stop = tl.load(cu + s), tl.load(cu + s + 1)
    inside = (e < E)[None, :]
    for k in tl.static_range(W - 1):  # pyright: ignore[reportGeneralTypeIssues]
        row = _earlier(x, past, s, stop - (W - 1) + k, start, e, inside, True, x_step, E, W)
        to = state + (s.to(tl.int64)[:, None] * E + e[None, :]) * (W - 1) + k
        tl.store(to, row.to(state.dtype.element_ty), mask=inside)


@kernel(do_not_specialize=["T", "sequences", "tiles"])
def conv_rows(
    x, weight, bias, cu, past, out, state, T, E, x_step, sequences, tiles,
    W: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, BOUNDS: tl.constexpr,
):  # fmt: skip
    """Programs below `tiles` convolve ROWS rows; each of the others keeps one sequence's final state."""
    tile = tl.program_id(0)
    e = tl.program_id(1) * LANES + tl.arange(0, LANES)
    if tile < tiles:
        _convolve(x, weight, bias, cu, past, out, tile, e, T, E, x_step, sequences, W, ROWS, LANES, BOUNDS)
    else:
        _keep(x, cu, past, state, tile - tiles, e, E, x_step, W)
