"""The scan's Triton kernels: one program per (block of channels, sequence, chunk of time).

A block's state is a tile (N, channels) in registers, channels along the lanes, so that the sum over N stays inside a
thread. B_t and C_t are read once per block. exp(Δ A) is exp2(Δ (A log2 e)). Rows are taken ROWS at a time, and their
u, dt and z are read while the rows before them are computed: two rows' work is longer than the memory's latency.

What is stored per channel and state is read and written state by state: the compiler lays a tile out as its loads and
stores like it, and would else move the decays from that layout into the state's at every step.
"""

import triton.language as tl

from deltaprune.kernels._triton_math import LOG2E, kernel, silu, softplus


@kernel
def _inside(i, width: tl.constexpr, LANES: tl.constexpr):
    """Which of a block's columns there are; where all are, the compiler knows, and predicates nothing."""
    return tl.zeros([LANES], tl.int32) == 0 if width % LANES == 0 else i < width


@kernel
def _chunk(cu, s, chunk, chunks, ROWS: tl.constexpr):
    """First row, end of the last ROWS together, end, and the sequence's end, for one of `chunks` parts.

    All but the last are whole ROWS; parts at the end may be empty.
    """
    first, last = tl.load(cu + s), tl.load(cu + s + 1)
    size = (last - first + chunks * ROWS - 1) // (chunks * ROWS) * ROWS
    start = tl.minimum(first + chunk * size, last)
    stop = tl.minimum(start + size, last)
    return start, stop - (stop - start) % ROWS, stop, last


@kernel
def _rows(x, t, step: tl.constexpr, columns, mask, ROWS: tl.constexpr):
    """ROWS rows of a matrix from row `t` on, as they are stored; zeros outside the mask."""
    start, rows = x + tl.cast(t, tl.int64) * step + columns, ()
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        rows += (tl.load(start + k * step, mask=mask, other=0.0),)
    return rows


@kernel
def _wide(x):
    """float32; of bfloat16 by its bits, which is one instruction where the compiler's own conversion takes two."""
    if x.dtype == tl.bfloat16:
        x = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    return x.to(tl.float32)


@kernel
def _read(x, step: tl.constexpr, lanes, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr):
    """What lies at `x`, `x + step`, ... `x + (N - 1) step`, as a tile (N, channels)."""
    n = tl.arange(0, NS)
    tile = tl.zeros([NS, LANES], tl.float32)
    for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
        tile = tl.where(n[:, None] == i, tl.load(x + i * step, mask=lanes, other=0.0)[None, :], tile)
    return tile


@kernel
def _write(x, step: tl.constexpr, tile, lanes, N: tl.constexpr, NS: tl.constexpr):
    """The inverse of `_read`."""
    n = tl.arange(0, NS)
    for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
        tl.store(x + i * step, tl.sum(tl.where(n[:, None] == i, tile, 0.0), 0), mask=lanes)


@kernel
def _advance(h, a, shift, u, dt, b):
    """Δ = softplus(dt + shift) and h = exp(Δ A) h + Δ u B."""
    step = softplus(_wide(dt) + shift)
    h = tl.fma(tl.exp2(a * step[None, :]), h, (step * _wide(u))[None, :] * _wide(b)[:, None])
    return h, step


@kernel
def _ends(h, total, a, shift, u, dt, B, t, n, states, B_step: tl.constexpr, ROWS: tl.constexpr):
    """ROWS rows from row `t` on, without outputs: state and sum of Δ."""
    b = _rows(B, t, B_step, n, states, ROWS)
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        h, step = _advance(h, a, shift, u[k], dt[k], b[k])
        total += step
    return h, total


@kernel(do_not_specialize=["blocks", "chunks"])
def ends_of_chunks(
    u, dt, B, A, bias, cu, ends, totals, blocks, chunks, E: tl.constexpr, u_step: tl.constexpr, dt_step: tl.constexpr,
    B_step: tl.constexpr, N: tl.constexpr, NS: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Of every chunk but a sequence's last: the state it reaches from zero, (S, chunks, N, E), and the sum of Δ."""
    s, chunk = tl.program_id(0) // blocks, tl.program_id(1)
    d, n = (tl.program_id(0) % blocks) * LANES + tl.arange(0, LANES), tl.arange(0, NS)
    lanes, states = _inside(d, E, LANES), _inside(n, N, NS)
    start, whole, stop, _ = _chunk(cu, s, chunk, chunks, ROWS)
    a = _read(A + d * N, 1, lanes, N, NS, LANES) * LOG2E
    shift = tl.load(bias + d, mask=lanes, other=0.0)
    h = tl.zeros([NS, LANES], tl.float32)
    total = tl.zeros([LANES], tl.float32)
    some = tl.where(start < whole, d, E) < E
    u_next, dt_next = _rows(u, start, u_step, d, some, ROWS), _rows(dt, start, dt_step, d, some, ROWS)
    for t in range(start, whole, ROWS):
        u_now, dt_now, ahead = u_next, dt_next, tl.minimum(t + ROWS, whole - ROWS)
        u_next, dt_next = _rows(u, ahead, u_step, d, lanes, ROWS), _rows(dt, ahead, dt_step, d, lanes, ROWS)
        h, total = _ends(h, total, a, shift, u_now, dt_now, B, t, n, states, B_step, ROWS)
    for t in range(whole, stop):
        u_now, dt_now = _rows(u, t, u_step, d, lanes, 1), _rows(dt, t, dt_step, d, lanes, 1)
        h, total = _ends(h, total, a, shift, u_now, dt_now, B, t, n, states, B_step, 1)
    at = (s.to(tl.int64) * chunks + chunk) * E
    tl.store(totals + at + d, total, mask=lanes)
    _write(ends + at * N + d, E, h, lanes, N, NS)


@kernel
def _scan(
    h, a, shift, skip, u, dt, z, b, c, out, delta, y, sums, t, d, lanes, E: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """ROWS rows from row `t` on. All are computed before one is stored: no load can be moved before a store."""
    steps, ungated, gated = (), (), ()
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        h, step = _advance(h, a, shift, u[k], dt[k], b[k])
        y_t = tl.sum(h * _wide(c[k])[:, None], 0) + skip * _wide(u[k])
        steps += (step,)
        ungated += (y_t,)
        gated += ((y_t * silu(_wide(z[k]))).to(out.dtype.element_ty),)
    to = tl.cast(t, tl.int64) * E + d
    for k in tl.static_range(ROWS):  # pyright: ignore[reportGeneralTypeIssues]
        tl.store(out + to + k * E, gated[k], mask=lanes)
        if delta is not None:
            tl.store(delta + to + k * E, steps[k], mask=lanes)
        if y is not None:
            tl.store(y + to + k * E, ungated[k], mask=lanes)
        if sums is not None:
            tl.store(sums + t + k, tl.sum(tl.where(lanes, steps[k], 0.0), 0))
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
    lanes, states = _inside(d, E, LANES), _inside(n, N, NS)
    start, whole, stop, last = _chunk(cu, s, chunk, chunks, ROWS)
    a = _read(A + d * N, 1, lanes, N, NS, LANES) * LOG2E
    shift, skip = tl.load(bias + d, mask=lanes, other=0.0), tl.load(D + d, mask=lanes, other=0.0)
    state = s.to(tl.int64) * E * N + d * N
    h = tl.zeros([NS, LANES], tl.float32)
    if CARRIED:
        h = _read(before + state, 1, lanes, N, NS, LANES)
    for c in range(chunk):
        at = (s.to(tl.int64) * chunks + c) * E
        total = tl.load(totals + at + d, mask=lanes, other=0.0)
        end = _read(ends + at * N + d, E, lanes, N, NS, LANES)
        h = tl.fma(tl.exp2(a * total[None, :]), h, end)
    if sums is not None:
        sums += block.to(tl.int64) * T
    some, few = tl.where(start < whole, d, E) < E, tl.where(start < whole, n, N) < N
    u_next, dt_next = _rows(u, start, u_step, d, some, ROWS), _rows(dt, start, dt_step, d, some, ROWS)
    z_next = _rows(z, start, z_step, d, some, ROWS)
    b_next, c_next = _rows(B, start, B_step, n, few, ROWS), _rows(C, start, C_step, n, few, ROWS)
    for t in range(start, whole, ROWS):
        u_now, dt_now, z_now, ahead = u_next, dt_next, z_next, tl.minimum(t + ROWS, whole - ROWS)
        u_next, dt_next = _rows(u, ahead, u_step, d, lanes, ROWS), _rows(dt, ahead, dt_step, d, lanes, ROWS)
        z_next = _rows(z, ahead, z_step, d, lanes, ROWS)
        if LANES < 32:  # a thread has few of the states, and so the registers to read B and C ahead as well
            b_now, c_now = b_next, c_next
            b_next, c_next = _rows(B, ahead, B_step, n, states, ROWS), _rows(C, ahead, C_step, n, states, ROWS)
        else:
            b_now, c_now = _rows(B, t, B_step, n, states, ROWS), _rows(C, t, C_step, n, states, ROWS)
        h = _scan(h, a, shift, skip, u_now, dt_now, z_now, b_now, c_now, out, delta, y, sums, t, d, lanes, E, ROWS)
    for t in range(whole, stop):
        u_now, dt_now = _rows(u, t, u_step, d, lanes, 1), _rows(dt, t, dt_step, d, lanes, 1)
        z_now = _rows(z, t, z_step, d, lanes, 1)
        b_now, c_now = _rows(B, t, B_step, n, states, 1), _rows(C, t, C_step, n, states, 1)
        h = _scan(h, a, shift, skip, u_now, dt_now, z_now, b_now, c_now, out, delta, y, sums, t, d, lanes, E, 1)
    if (stop == last) & ((start < last) | (chunk == 0)):
        _write(after + state, 1, h, lanes, N, NS)
