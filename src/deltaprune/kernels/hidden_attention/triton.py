"""Hidden attention on GPUs, in Triton; see `_triton_attention` for the kernel."""

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._device import on_device_of
from deltaprune.kernels._triton import DEVICES, FUSED, PRIORITY, rows, weights, why_not

LANES = 16  # channels per program
ROWS = 32  # per tile


def last_row(delta: Tensor, A: Tensor, B: Tensor, c: Tensor) -> Tensor:
    """See `hidden_attention`."""
    from deltaprune.kernels.hidden_attention import _triton_attention as kernels  # imports triton: only where it runs

    (length, channels), order = delta.shape, A.shape[1]
    delta, B = rows(delta), rows(B)
    A, c = weights(A, c)
    blocks = -(-channels // LANES)
    sums = torch.empty(blocks, length, dtype=torch.float32, device=delta.device)
    with on_device_of(delta):
        kernels.last_row[(blocks,)](
            delta, A, B, c, sums, length, channels, delta.stride(0), B.stride(0),
            N=order, LANES=LANES, ROWS=ROWS, num_warps=4, **FUSED,
        )  # fmt: skip
    # In float64, so that the order in which torch adds them does not show.
    return (sums.sum(0, dtype=torch.float64) / channels).float()


BACKEND = Backend(
    op="hidden_attention",
    name="triton",
    devices=DEVICES,
    carries_state=True,
    probe=why_not,
    fn=last_row,
    dtypes=(torch.float32,),
    priority=PRIORITY,
    capturable=True,
)
