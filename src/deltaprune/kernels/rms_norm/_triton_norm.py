"""The norm's Triton kernel: one program per row, which it reads once."""

import triton.language as tl

from deltaprune.kernels._triton_math import kernel


@kernel
def norm_rows(x, branch, weight, stream, normed, x_step, branch_step, eps, WIDTH: tl.constexpr, LANES: tl.constexpr):
    """`stream`, the sum, is written only where there is something to add or to widen."""
    row = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, LANES)
    inside = e < WIDTH
    r = tl.load(x + row * x_step + e, mask=inside, other=0.0).to(tl.float32)
    if branch is not None:
        r += tl.load(branch + row * branch_step + e, mask=inside, other=0.0).to(tl.float32)
    if stream is not None:
        tl.store(stream + row * WIDTH + e, r, mask=inside)
    scale = tl.rsqrt(tl.sum(r * r, 0) / WIDTH + eps)
    gain = tl.load(weight + e, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row * WIDTH + e, (r * scale * gain).to(normed.dtype.element_ty), mask=inside)
