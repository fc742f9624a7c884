"""The norm on GPUs, in Triton; see `_triton_norm` for the kernel."""

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._device import on_device_of
from deltaprune.kernels._triton import DEVICES, DTYPES, FUSED, PRIORITY, rows, why_not


def norm(x: Tensor, weight: Tensor, eps: float, branch: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """See `rms_norm`."""
    from deltaprune.kernels.rms_norm import _triton_norm as kernels  # imports triton: only where it runs

    length, width = x.shape
    x, branch = rows(x), None if branch is None else rows(branch)
    normed = torch.empty((length, width), dtype=dtype, device=x.device)
    if branch is None and x.dtype == torch.float32:
        stream, result = None, x
    else:
        stream = result = torch.empty((length, width), dtype=torch.float32, device=x.device)
    lanes = 1 << (width - 1).bit_length()
    if length:
        with on_device_of(x):
            kernels.norm_rows[(length,)](
                x, branch, weight.detach(), stream, normed, x.stride(0), 0 if branch is None else branch.stride(0), eps,
                WIDTH=width, LANES=lanes, num_warps=min(16, max(1, lanes // 512)), **FUSED,
            )  # fmt: skip
    return result, normed


BACKEND = Backend(
    op="rms_norm",
    name="triton",
    devices=DEVICES,
    carries_state=True,
    probe=why_not,
    fn=norm,
    dtypes=DTYPES,
    priority=PRIORITY,
    capturable=True,
)
