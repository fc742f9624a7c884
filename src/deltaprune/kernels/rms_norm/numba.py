"""The norm on CPUs: a row is read once from memory and written once, in the projection's type."""

import numpy as np
import torch
from numba import prange
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._memory import empty
from deltaprune.kernels._numba import compiled, launch, narrow, rows, widen
from deltaprune.kernels.residual_add import residual_add
from deltaprune.kernels.rms_norm import reference

TYPES = (torch.float32, torch.bfloat16)


@compiled(reorders=True)
def _mean_square(x, at, width):
    """Of one row."""
    total = np.float32(0)
    for i in range(width):
        value = widen(x[at + np.uintp(i)])
        total += value * value
    return total / np.float32(width)


@compiled(parallel=True)
def norm_rows(x, x_step, weight, eps, out):
    """Row by row."""
    width = len(weight)
    for t in prange(len(out) // width):
        at, to = np.uintp(t * x_step), np.uintp(t * width)
        scale = np.float32(1) / np.sqrt(_mean_square(x, at, width) + eps)
        for i in range(width):
            out[to + np.uintp(i)] = narrow(widen(x[at + np.uintp(i)]) * scale * weight[i], out[0])


def norm(x: Tensor, weight: Tensor, eps: float, branch: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """See `rms_norm`; other types than bfloat16 and float32 go to torch."""
    if dtype not in TYPES or x.numel() == 0:
        return reference.norm(x, weight, eps, branch, dtype)
    stream = x.float() if branch is None else residual_add(x.float(), branch)
    out = empty("rms_norm.out", x.shape, dtype)
    gain = weight.detach().float().contiguous().numpy()
    launch(norm_rows, x.numel() // 8, *rows(stream), gain, np.float32(eps), rows(out)[0])
    return stream, out


BACKEND = Backend(
    op="rms_norm",
    name="numba",
    devices=("cpu",),
    carries_state=True,
    probe=lambda: None,
    fn=norm,
    dtypes=TYPES,
    priority=10,
)
