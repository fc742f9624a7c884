"""The last state's Triton kernels: every chunk of time by itself, then the chunks folded into one state.

One program per (block of channels, sequence, chunk); tiles and rows as in the scan, see `_triton_scan`.
"""

import triton.language as tl

from deltaprune.kernels._triton_math import LOG2E, kernel
from deltaprune.kernels._triton_tiles import advance, fold, inside, part, read_rows, read_tile, store_steps, write_tile


@kernel
def _ends(h, total, a, shift, u, dt, b, delta, sums, t, d, lanes, E: tl.constexpr, ROWS: tl.constexpr):
    """ROWS rows from row `t` on, without outputs: state and sum of Δ. All are computed before one is stored."""
    steps = ()
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        h, step = advance(h, a, shift, u[k], dt[k], b[k])
        total += step
        steps += (step,)
    store_steps(delta, sums, steps, t, d, lanes, E, ROWS)
    return h, total


@kernel(do_not_specialize=["T", "blocks", "chunks"])
def ends_of_chunks(
    u, dt, B, A, bias, cu, before, ends, totals, delta, sums, T, blocks, chunks,
    E: tl.constexpr, u_step: tl.constexpr, dt_step: tl.constexpr, B_step: tl.constexpr, CARRIED: tl.constexpr,
    WHOLE: tl.constexpr, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Of each chunk: the state it reaches, `ends (S, chunks, N, E)`, and the sum of Δ, `totals (S, chunks, E)`.

    A sequence's first chunk starts from `before (S, E, N)` where it is CARRIED, all others from zero. WHOLE: there is
    one chunk, `ends` is the last state (S, E, N) itself, and no `totals` are written.
    """
    s, chunk, block = tl.program_id(0) // blocks, tl.program_id(1), tl.program_id(0) % blocks
    d, n = block * LANES + tl.arange(0, LANES), tl.arange(0, NS)
    lanes, states = inside(d, E, LANES), inside(n, N, NS)
    start, whole, stop, _ = part(cu, s, chunk, chunks, ROWS)
    a = read_tile(A + d * N, 1, lanes, N, NS, LANES) * LOG2E
    shift = tl.load(bias + d, mask=lanes, other=0.0)
    state = s.to(tl.int64) * E * N + d * N
    h = tl.zeros([NS, LANES], tl.float32)
    if CARRIED:
        h = read_tile(before + state, 1, tl.where(chunk == 0, d, E) < E, N, NS, LANES)
    if sums is not None:
        sums += block.to(tl.int64) * T
    total = tl.zeros([LANES], tl.float32)
    some, few = tl.where(start < whole, d, E) < E, tl.where(start < whole, n, N) < N
    u_next, dt_next = read_rows(u, start, u_step, d, some, ROWS), read_rows(dt, start, dt_step, d, some, ROWS)
    b_next = read_rows(B, start, B_step, n, few, ROWS)
    for t in range(start, whole, ROWS):
        u_now, dt_now, ahead = u_next, dt_next, tl.minimum(t + ROWS, whole - ROWS)
        u_next, dt_next = read_rows(u, ahead, u_step, d, lanes, ROWS), read_rows(dt, ahead, dt_step, d, lanes, ROWS)
        if LANES < 32:  # a thread has few of the states, and so the registers to read B ahead as well
            b_now = b_next
            b_next = read_rows(B, ahead, B_step, n, states, ROWS)
        else:
            b_now = read_rows(B, t, B_step, n, states, ROWS)
        h, total = _ends(h, total, a, shift, u_now, dt_now, b_now, delta, sums, t, d, lanes, E, ROWS)
    for t in range(whole, stop):
        u_now, dt_now = read_rows(u, t, u_step, d, lanes, 1), read_rows(dt, t, dt_step, d, lanes, 1)
        b_now = read_rows(B, t, B_step, n, states, 1)
        h, total = _ends(h, total, a, shift, u_now, dt_now, b_now, delta, sums, t, d, lanes, E, 1)
    if WHOLE:
        write_tile(ends + state, 1, h, lanes, N, NS)
    else:
        at = (s.to(tl.int64) * chunks + chunk) * E
        tl.store(totals + at + d, total, mask=lanes)
        write_tile(ends + at * N + d, E, h, lanes, N, NS)


@kernel(do_not_specialize=["blocks", "chunks"])
def fold_chunks(
    A, ends, totals, after, blocks, chunks, E: tl.constexpr, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The last state (S, E, N) from what `ends_of_chunks` wrote for every chunk."""
    s, d = tl.program_id(0) // blocks, (tl.program_id(0) % blocks) * LANES + tl.arange(0, LANES)
    lanes = inside(d, E, LANES)
    a = read_tile(A + d * N, 1, lanes, N, NS, LANES) * LOG2E
    h = fold(tl.zeros([NS, LANES], tl.float32), a, ends, totals, s, chunks, chunks, d, lanes, E, N, NS, LANES)
    write_tile(after + s.to(tl.int64) * E * N + d * N, 1, h, lanes, N, NS)
