"""The scan's Triton kernels: one program per (block of channels, sequence, chunk of time).

A block's state is a tile (N, channels) in registers, channels along the lanes, so that the sum over N stays inside a
thread. B_t and C_t are read once per block, every row one step before it is needed. exp(Δ A) is exp2(Δ (A log2 e)).

What is stored (E, N) is read and written state by state: the compiler lays a tile out as its loads and stores like it,
and would else move the decays from that layout into the state's at every step.
"""

import triton.language as tl

from deltaprune.kernels._triton_math import LOG2E, kernel, silu, softplus


@kernel
def _chunk(cu, s, chunk, chunks):
    """First row, end, and the end of the sequence, for one of `chunks` equal parts; parts at the end may be empty."""
    first, last = tl.load(cu + s), tl.load(cu + s + 1)
    size = (last - first + chunks - 1) // chunks
    start = first + chunk * size
    return start, tl.minimum(start + size, last), last


@kernel
def _row(x, row, stop, step, columns, width):
    """One row of a matrix, float32; zeros at `stop`, where there is none, and beyond the last column."""
    mask = columns < tl.where(row < stop, width, 0)
    return tl.load(x + tl.cast(row, tl.int64) * step + columns, mask=mask, other=0.0).to(tl.float32)


@kernel
def _read(x, d, E, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr):
    """Of a float32 matrix (E, N) the rows `d`, as a tile (N, channels)."""
    n = tl.arange(0, NS)
    tile = tl.zeros([NS, LANES], tl.float32)
    for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
        tile = tl.where(n[:, None] == i, tl.load(x + d * N + i, mask=d < E, other=0.0)[None, :], tile)
    return tile


@kernel
def _write(x, tile, d, E, N: tl.constexpr, NS: tl.constexpr):
    """The inverse of `_read`."""
    n = tl.arange(0, NS)
    for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
        tl.store(x + d * N + i, tl.sum(tl.where(n[:, None] == i, tile, 0.0), 0), mask=d < E)


@kernel
def _advance(h, a, step, u, b):
    """h = exp(Δ A) h + Δ u B."""
    return tl.fma(tl.exp2(a * step[None, :]), h, (step * u)[None, :] * b[:, None])


@kernel(do_not_specialize=["blocks", "chunks"])
def ends_of_chunks(
    u, dt, B, A, bias, cu, ends, totals, E, u_step, dt_step, B_step, blocks, chunks,
    N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Of every chunk but a sequence's last: the state it reaches from zero, (S, chunks, E, N), and the sum of Δ."""
    s, chunk = tl.program_id(0) // blocks, tl.program_id(1)
    d, n = (tl.program_id(0) % blocks) * LANES + tl.arange(0, LANES), tl.arange(0, NS)
    lanes = d < E
    start, stop, _ = _chunk(cu, s, chunk, chunks)
    a = _read(A, d, E, N, NS, LANES) * LOG2E
    shift = tl.load(bias + d, mask=lanes, other=0.0)
    h = tl.zeros([NS, LANES], tl.float32)
    total = tl.zeros([LANES], tl.float32)
    u_next, dt_next = _row(u, start, stop, u_step, d, E), _row(dt, start, stop, dt_step, d, E)
    b_next = _row(B, start, stop, B_step, n, N)
    for t in range(start, stop):
        u_t, dt_t, b_t = u_next, dt_next, b_next
        u_next, dt_next = _row(u, t + 1, stop, u_step, d, E), _row(dt, t + 1, stop, dt_step, d, E)
        b_next = _row(B, t + 1, stop, B_step, n, N)
        step = softplus(dt_t + shift)
        h = _advance(h, a, step, u_t, b_t)
        total += step
    at = (s.to(tl.int64) * chunks + chunk) * E
    tl.store(totals + at + d, total, mask=lanes)
    _write(ends + at * N, h, d, E, N, NS)


@kernel(do_not_specialize=["T", "blocks", "chunks"])
def scan_chunks(
    u, dt, z, B, C, A, D, bias, cu, before, ends, totals, out, after, delta, y, sums,
    E, T, u_step, dt_step, z_step, B_step, C_step, blocks, chunks,
    CARRIED: tl.constexpr, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """The scan of one chunk, from the state that the initial one and the chunks before make."""
    s, chunk, block = tl.program_id(0) // blocks, tl.program_id(1), tl.program_id(0) % blocks
    d, n = block * LANES + tl.arange(0, LANES), tl.arange(0, NS)
    lanes = d < E
    start, stop, last = _chunk(cu, s, chunk, chunks)
    a = _read(A, d, E, N, NS, LANES) * LOG2E
    shift, skip = tl.load(bias + d, mask=lanes, other=0.0), tl.load(D + d, mask=lanes, other=0.0)
    state = s.to(tl.int64) * E * N
    h = tl.zeros([NS, LANES], tl.float32)
    if CARRIED:
        h = _read(before + state, d, E, N, NS, LANES)
    for c in range(chunk):
        at = (s.to(tl.int64) * chunks + c) * E
        total = tl.load(totals + at + d, mask=lanes, other=0.0)
        end = _read(ends + at * N, d, E, N, NS, LANES)
        h = tl.fma(tl.exp2(a * total[None, :]), h, end)
    u_next, dt_next = _row(u, start, stop, u_step, d, E), _row(dt, start, stop, dt_step, d, E)
    b_next, c_next = _row(B, start, stop, B_step, n, N), _row(C, start, stop, C_step, n, N)
    z_next = _row(z, start, stop, z_step, d, E)
    for t in range(start, stop):
        u_t, dt_t, b_t, c_t, z_t = u_next, dt_next, b_next, c_next, z_next
        u_next, dt_next = _row(u, t + 1, stop, u_step, d, E), _row(dt, t + 1, stop, dt_step, d, E)
        b_next, c_next = _row(B, t + 1, stop, B_step, n, N), _row(C, t + 1, stop, C_step, n, N)
        z_next = _row(z, t + 1, stop, z_step, d, E)
        step = softplus(dt_t + shift)
        h = _advance(h, a, step, u_t, b_t)
        y_t = tl.sum(h * c_t[:, None], 0) + skip * u_t
        to = tl.cast(t, tl.int64) * E + d
        tl.store(out + to, (y_t * silu(z_t)).to(out.dtype.element_ty), mask=lanes)
        if delta is not None:
            tl.store(delta + to, step, mask=lanes)
        if y is not None:
            tl.store(y + to, y_t, mask=lanes)
        if sums is not None:
            tl.store(sums + block.to(tl.int64) * T + t, tl.sum(tl.where(lanes, step, 0.0), 0))
    if (stop == last) & ((start < last) | (chunk == 0)):
        _write(after + state, h, d, E, N, NS)
