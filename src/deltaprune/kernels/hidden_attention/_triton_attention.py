"""The Triton kernel of hidden attention: one program per block of channels, tile by tile from the last row on."""

import triton.language as tl

from deltaprune.kernels._triton_math import LOG2E, kernel


@kernel(do_not_specialize=["L"])
def last_row(
    delta, A, B, c, sums, L, E, delta_step, B_step, N: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """`sums` (blocks, L): every row's |K|, summed over the block's channels."""
    block = tl.program_id(0)
    e = block * LANES + tl.arange(0, LANES)
    passed = tl.zeros([LANES], tl.float64)  # Δ of the rows after this tile
    for tile in range(tl.cdiv(L, ROWS) - 1, -1, -1):
        t = tile * ROWS + tl.arange(0, ROWS)
        inside = (t < L)[:, None] & (e < E)[None, :]
        now = tl.load(delta + t.to(tl.int64)[:, None] * delta_step + e[None, :], mask=inside, other=0.0)
        wide = now.to(tl.float64)
        after = (passed[None, :] + tl.cumsum(wide, 0, reverse=True) - wide).to(tl.float32)
        k = tl.zeros([ROWS, LANES], tl.float32)
        for n in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
            a = tl.load(A + e * N + n, mask=e < E, other=0.0)
            b = tl.load(B + t.to(tl.int64) * B_step + n, mask=t < L, other=0.0).to(tl.float32)
            k += (tl.load(c + n) * b)[:, None] * tl.exp2(a[None, :] * after * LOG2E)
        tl.store(sums + block.to(tl.int64) * L + t, tl.sum(tl.abs(k * now), 1), mask=t < L)
        passed += tl.sum(wide, 0)
