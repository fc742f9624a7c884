"""The convolution on GPUs, in Triton: outputs and final states in one launch; see `_triton_conv` for the kernel."""

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels._device import on_device_of
from deltaprune.kernels._triton import DEVICES, DTYPES, FUSED, PRIORITY, rows, why_not

LANES = 64  # channels per program
ROWS = 16  # rows per program, fewer where there are fewer
BOUNDS = 32  # sequence boundaries compared at once, fewer where there are fewer


def conv(
    x: Tensor, weight: Tensor, bias: Tensor, cu_seqlens: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `causal_conv1d`."""
    from deltaprune.kernels.causal_conv1d import _triton_conv as kernels  # imports triton: only where it runs

    (length, channels), width, sequences = x.shape, weight.shape[1], len(cu_seqlens) - 1
    x = rows(x)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    state = torch.empty((sequences, channels, width - 1), dtype=x.dtype, device=x.device)
    past = None if initial_state is None else initial_state.detach().to(x.dtype).contiguous()
    per_tile, bounds = (min(most, 1 << (n - 1).bit_length()) for most, n in ((ROWS, length), (BOUNDS, sequences)))
    programs = -(-channels // LANES) * (sequences + -(-length // per_tile))
    with on_device_of(x):
        kernels.conv_rows[(programs,)](
            x, weight.detach().contiguous(), bias.detach().contiguous(), cu_seqlens, past, out, state,
            length, sequences, E=channels, x_step=x.stride(0), W=width, ROWS=per_tile, LANES=LANES, BOUNDS=bounds,
            num_warps=1, **FUSED,
        )  # fmt: skip
    return out, state


BACKEND = Backend(
    op="causal_conv1d",
    name="triton",
    devices=DEVICES,
    carries_state=True,
    probe=why_not,
    fn=conv,
    dtypes=DTYPES,
    priority=PRIORITY,
    capturable=True,
)
