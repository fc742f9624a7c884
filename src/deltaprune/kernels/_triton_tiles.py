"""What the scans' Triton kernels share: chunks of time, rows and tiles in registers, the recurrence itself.

What is stored per channel and state is read and written state by state: the compiler lays a tile out as its loads and
stores like it, and would else move the decays from that layout into the state's at every step.
"""

import triton.language as tl

from deltaprune.kernels._triton_math import kernel, softplus


@kernel
def inside(i, width: tl.constexpr, LANES: tl.constexpr):
    """Which of a block's columns there are; where all are, the compiler knows, and predicates nothing."""
    return tl.zeros([LANES], tl.int32) == 0 if width % LANES == 0 else i < width


@kernel
def part(cu, s, chunk, chunks, ROWS: tl.constexpr):
    """First row, end of the last ROWS together, end, and the sequence's end, for one of `chunks` parts.

    All but the last are whole ROWS; parts at the end may be empty.
    """
    first, last = tl.load(cu + s), tl.load(cu + s + 1)
    size = (last - first + chunks * ROWS - 1) // (chunks * ROWS) * ROWS
    start = tl.minimum(first + chunk * size, last)
    stop = tl.minimum(start + size, last)
    return start, stop - (stop - start) % ROWS, stop, last


@kernel
def read_rows(x, t, step: tl.constexpr, columns, mask, ROWS: tl.constexpr):
    """ROWS rows of a matrix from row `t` on, as they are stored; zeros outside the mask."""
    start, rows = x + tl.cast(t, tl.int64) * step + columns, ()
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        rows += (tl.load(start + k * step, mask=mask, other=0.0),)
    return rows


@kernel
def wide(x):
    """float32; of bfloat16 by its bits, which is one instruction where the compiler's own conversion takes two."""
    if x.dtype == tl.bfloat16:
        x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return x.to(tl.float32)


@kernel
def read_tile(x, step: tl.constexpr, lanes, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr):
    """What lies at `x`, `x + step`, ... `x + (N - 1) step`, as a tile (N, channels)."""
    n = tl.arange(0, NS)
    tile = tl.zeros([NS, LANES], tl.float32)
    for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
        tile = tl.where(n[:, None] == i, tl.load(x + i * step, mask=lanes, other=0.0)[None, :], tile)
    return tile


@kernel
def write_tile(x, step: tl.constexpr, tile, lanes, N: tl.constexpr, NS: tl.constexpr):
    """The inverse of `read_tile`."""
    n = tl.arange(0, NS)
    for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
        tl.store(x + i * step, tl.sum(tl.where(n[:, None] == i, tile, 0.0), 0), mask=lanes)


@kernel
def advance(h, a, shift, u, dt, b):
    """Δ = softplus(dt + shift) and h = exp(Δ A) h + Δ u B."""
    step = softplus(wide(dt) + shift)
    h = tl.fma(tl.exp2(a * step[None, :]), h, (step * wide(u))[None, :] * wide(b)[:, None])
    return h, step


@kernel
def store_steps(delta, sums, steps, t, d, lanes, E: tl.constexpr, ROWS: tl.constexpr):
    """Δ of ROWS rows from row `t` on, and its sums over a block, where they are wanted."""
    to = tl.cast(t, tl.int64) * E + d
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        if delta is not None:
            tl.store(delta + to + k * E, steps[k], mask=lanes)
        if sums is not None:
            tl.store(sums + t + k, tl.sum(tl.where(lanes, steps[k], 0.0), 0))


@kernel
def fold(
    h, a, ends, totals, s, count, chunks, d, lanes,
    E: tl.constexpr, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The state after the first `count` chunks of a sequence, from `h` before it and what `ends_of_chunks` wrote."""
    for c in range(count):
        at = (s.to(tl.int64) * chunks + c) * E
        total = tl.load(totals + at + d, mask=lanes, other=0.0)
        end = read_tile(ends + at * N + d, E, lanes, N, NS, LANES)
        h = tl.fma(tl.exp2(a * total[None, :]), h, end)
    return h
