"""The scan's Triton kernels: one program per (block of channels, sequence, chunk of time).

A block's state is a tile (N, channels) in registers, channels along the lanes, so that the sum over N stays inside a
thread. B_t and C_t are read once per block. exp(Δ A) is exp2(Δ (A log2 e)). Rows are taken ROWS at a time, and their
u, dt and z are read while the rows before them are computed: two rows' work is longer than the memory's latency.
"""

import triton.language as tl

from deltaprune.kernels._triton_math import LOG2E, kernel, silu
from deltaprune.kernels._triton_tiles import (
    advance,
    fold,
    inside,
    part,
    read_rows,
    read_tile,
    store_steps,
    wide,
    write_tile,
)


@kernel
def _scan(
    h, a, shift, skip, u, dt, z, b, c, out, delta, y, sums, t, d, lanes, E: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """ROWS rows from row `t` on. All are computed before one is stored: no load can be moved before a store."""
    steps, ungated, gated = (), (), ()
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        h, step = advance(h, a, shift, u[k], dt[k], b[k])
        y_t = tl.sum(h * wide(c[k])[:, None], 0) + skip * wide(u[k])
        steps += (step,)
        ungated += (y_t,)
        gated += ((y_t * silu(wide(z[k]))).to(out.dtype.element_ty),)
    to = tl.cast(t, tl.int64) * E + d
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        tl.store(out + to + k * E, gated[k], mask=lanes)
        if y is not None:
            tl.store(y + to + k * E, ungated[k], mask=lanes)
    store_steps(delta, sums, steps, t, d, lanes, E, ROWS)
    return h


@kernel(do_not_specialize=["T", "blocks", "chunks"])
def scan_chunks(
    u, dt, z, B, C, A, D, bias, cu, before, ends, totals, out, after, delta, y, sums, T, blocks, chunks,
    E: tl.constexpr, u_step: tl.constexpr, dt_step: tl.constexpr, z_step: tl.constexpr, B_step: tl.constexpr,
    C_step: tl.constexpr, CARRIED: tl.constexpr, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """The scan of one chunk, from the state that the initial one and the chunks before make."""
    s, chunk, block = tl.program_id(0) // blocks, tl.program_id(1), tl.program_id(0) % blocks
    d, n = block * LANES + tl.arange(0, LANES), tl.arange(0, NS)
    lanes, states = inside(d, E, LANES), inside(n, N, NS)
    start, whole, stop, last = part(cu, s, chunk, chunks, ROWS)
    a = read_tile(A + d * N, 1, lanes, N, NS, LANES) * LOG2E
    shift, skip = tl.load(bias + d, mask=lanes, other=0.0), tl.load(D + d, mask=lanes, other=0.0)
    state = s.to(tl.int64) * E * N + d * N
    h = tl.zeros([NS, LANES], tl.float32)
    if CARRIED:
        h = read_tile(before + state, 1, lanes, N, NS, LANES)
    h = fold(h, a, ends, totals, s, chunk, chunks, d, lanes, E, N, NS, LANES)
    if sums is not None:
        sums += block.to(tl.int64) * T
    some, few = tl.where(start < whole, d, E) < E, tl.where(start < whole, n, N) < N
    u_next, dt_next = read_rows(u, start, u_step, d, some, ROWS), read_rows(dt, start, dt_step, d, some, ROWS)
    z_next = read_rows(z, start, z_step, d, some, ROWS)
    b_next, c_next = read_rows(B, start, B_step, n, few, ROWS), read_rows(C, start, C_step, n, few, ROWS)
    for t in range(start, whole, ROWS):
        u_now, dt_now, z_now, ahead = u_next, dt_next, z_next, tl.minimum(t + ROWS, whole - ROWS)
        u_next, dt_next = read_rows(u, ahead, u_step, d, lanes, ROWS), read_rows(dt, ahead, dt_step, d, lanes, ROWS)
        z_next = read_rows(z, ahead, z_step, d, lanes, ROWS)
        if LANES < 32:  # a thread has few of the states, and so the registers to read B and C ahead as well
            b_now, c_now = b_next, c_next
            b_next, c_next = read_rows(B, ahead, B_step, n, states, ROWS), read_rows(C, ahead, C_step, n, states, ROWS)
        else:
            b_now, c_now = read_rows(B, t, B_step, n, states, ROWS), read_rows(C, t, C_step, n, states, ROWS)
        h = _scan(h, a, shift, skip, u_now, dt_now, z_now, b_now, c_now, out, delta, y, sums, t, d, lanes, E, ROWS)
    for t in range(whole, stop):
        u_now, dt_now = read_rows(u, t, u_step, d, lanes, 1), read_rows(dt, t, dt_step, d, lanes, 1)
        z_now = read_rows(z, t, z_step, d, lanes, 1)
        b_now, c_now = read_rows(B, t, B_step, n, states, 1), read_rows(C, t, C_step, n, states, 1)
        h = _scan(h, a, shift, skip, u_now, dt_now, z_now, b_now, c_now, out, delta, y, sums, t, d, lanes, E, 1)
    if (stop == last) & ((start < last) | (chunk == 0)):
        write_tile(after + state, 1, h, lanes, N, NS)
