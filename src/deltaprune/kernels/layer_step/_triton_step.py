"""The step's Triton kernels: four launches, each of which reads its weights once and little else.

    in_conv    norm, in_proj, convolution, SiLU      x, conv -> u, z, conv
    product    x_proj                                u -> dt, B, C
    dt_scan    dt_proj, one step of the scan, gate   dt, B, C, u, z, ssm -> gated y, ssm
    product    out_proj, residual add                gated y, x -> x

A program holds whole rows of a weight matrix, in one load and before it needs anything else. With `EARLY` it may start
while the launch before it still runs, reads its weights then, and waits for what that launch writes: only what no
launch writes may be read before `_wait`.

A tile with fewer elements than threads is held by several threads, which all load it; between such loads and a store to
the same place there is a barrier.
"""

import triton.language as tl
from triton.language.extra import cuda

from deltaprune.kernels._triton_math import LOG2E, kernel, silu, softplus


@kernel
def _wait(EARLY: tl.constexpr):
    """Let the next launch start, then wait until all earlier ones have finished."""
    if EARLY:
        cuda.gdc_launch_dependents()
        cuda.gdc_wait()


@kernel
def _rows(weight, r, M, K: tl.constexpr, LANES: tl.constexpr):
    """Rows `r` of a matrix (M, K), as they are stored."""
    k = tl.arange(0, LANES)
    at = weight + r.to(tl.int64)[:, None] * K + k[None, :]
    return tl.load(at, mask=(r < M)[:, None] & (k < K)[None, :], other=0.0)


@kernel
def _nth(x, channel, width: tl.constexpr, back: tl.constexpr, mask):
    """Of each channel's `width` values, oldest first, the one `back` places before the end; zeros before the first."""
    return tl.load(x + channel * width + (width - back), mask=mask & (back <= width), other=0.0)


@kernel
def in_conv(
    x, gain, weight, taps, bias, past, after, uz, eps, E,
    BATCH: tl.constexpr, K: tl.constexpr, W: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Rows below E of the product are channels of u, which pass the convolution of 2 to 4 taps; the others are z."""
    r, k = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, LANES)
    w = _rows(weight, r, 2 * E, K, LANES)
    g = tl.load(gain + k, mask=k < K, other=0.0).to(tl.float32)
    is_u = r < E
    tap1, tap2 = _nth(taps, r, W, 1, is_u).to(tl.float32), _nth(taps, r, W, 2, is_u).to(tl.float32)
    tap3, tap4 = _nth(taps, r, W, 3, is_u).to(tl.float32), _nth(taps, r, W, 4, is_u).to(tl.float32)
    shift = tl.load(bias + r, mask=is_u, other=0.0).to(tl.float32)
    _wait(EARLY)
    for b in tl.static_range(BATCH):  # pyright: ignore[reportGeneralTypeIssues]
        channel = (b * E + r).to(tl.int64)
        old1, old2 = _nth(past, channel, W - 1, 1, is_u), _nth(past, channel, W - 1, 2, is_u)
        old3 = _nth(past, channel, W - 1, 3, is_u)
        row = tl.load(x + b * K + k, mask=k < K, other=0.0).to(tl.float32)
        normed = row * tl.rsqrt(tl.sum(row * row, 0) / K + eps) * g
        normed = normed.to(weight.dtype.element_ty).to(tl.float32)
        new = tl.sum(w.to(tl.float32) * normed[None, :], 1).to(uz.dtype.element_ty)
        total = tl.fma(tap4, old3.to(tl.float32), tl.fma(tap3, old2.to(tl.float32), shift))
        total = tl.fma(tap1, new.to(tl.float32), tl.fma(tap2, old1.to(tl.float32), total))
        tl.debug_barrier()
        last = after + channel * (W - 1) + (W - 2)
        tl.store(last, new.to(after.dtype.element_ty), mask=is_u)
        tl.store(last - 1, old1, mask=is_u & (W > 2))
        tl.store(last - 2, old2, mask=is_u & (W > 3))
        u = tl.where(is_u, silu(total), new.to(tl.float32))
        tl.store(uz + b * 2 * E + r, u.to(uz.dtype.element_ty), mask=r < 2 * E)


@kernel
def product(
    x, weight, residual, out, M, x_step,
    BATCH: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """out (B, M) = x (B, K) weight^T, rounded to the weight's type; then added to `residual` where there is one."""
    r, k = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, LANES)
    w = _rows(weight, r, M, K, LANES)
    _wait(EARLY)
    for b in tl.static_range(BATCH):  # pyright: ignore[reportGeneralTypeIssues]
        row = tl.load(x + b * x_step + k, mask=k < K, other=0.0).to(tl.float32)
        total = tl.sum(w.to(tl.float32) * row[None, :], 1).to(weight.dtype.element_ty)
        if residual is not None:
            total = total.to(tl.float32) + tl.load(residual + b * M + r, mask=r < M, other=0.0)
        tl.store(out + b * M + r, total, mask=r < M)


@kernel
def dt_scan(
    projected, weight, bias, A_log, D, uz, before, after, out, E,
    R: tl.constexpr, N: tl.constexpr, CHANNELS: tl.constexpr, RANKS: tl.constexpr, STATES: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """A block of channels of one sample; `projected` holds its dt before dt_proj, B and C."""
    d, b = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS), tl.program_id(1)
    r, n = tl.arange(0, RANKS), tl.arange(0, STATES)
    inside, states = d < E, (d < E)[:, None] & (n < N)[None, :]
    w = _rows(weight, d, E, R, RANKS).to(tl.float32)
    log = tl.load(A_log + d[:, None] * N + n[None, :], mask=states, other=0.0).to(tl.float32)
    a = tl.exp2(log * LOG2E) * -LOG2E
    shift, skip = tl.load(bias + d, mask=inside, other=0.0), tl.load(D + d, mask=inside, other=0.0)
    _wait(EARLY)
    row = projected + b * (R + 2 * N)
    dt = tl.load(row + r, mask=r < R, other=0.0).to(tl.float32)
    B = tl.load(row + R + n, mask=n < N, other=0.0).to(tl.float32)
    C = tl.load(row + R + N + n, mask=n < N, other=0.0).to(tl.float32)
    u = tl.load(uz + b * 2 * E + d, mask=inside, other=0.0).to(tl.float32)
    z = tl.load(uz + b * 2 * E + E + d, mask=inside, other=0.0).to(tl.float32)
    at = (b * E + d).to(tl.int64)[:, None] * N + n[None, :]
    h = tl.load(before + at, mask=states, other=0.0)
    step = softplus(tl.sum(w * dt[None, :], 1).to(weight.dtype.element_ty).to(tl.float32) + shift.to(tl.float32))
    h = tl.fma(tl.exp2(a * step[:, None]), h, (step * u)[:, None] * B[None, :])
    tl.debug_barrier()
    tl.store(after + at, h, mask=states)
    y = tl.sum(h * C[None, :], 1) + skip.to(tl.float32) * u
    tl.store(out + b * E + d, (y * silu(z)).to(out.dtype.element_ty), mask=inside)
