"""The convolution exactly as in the equation, on any device and in any floating type."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from deltaprune.kernels._backend import Backend


def conv(
    x: Float[Tensor, "T E"],
    weight: Float[Tensor, "E W"],
    bias: Float[Tensor, "E"],
    cu_seqlens: Int32[Tensor, "S_plus_1"],
    initial_state: Float[Tensor, "S E W-1"] | None,
) -> tuple[Float[Tensor, "T E"], Float[Tensor, "S E W-1"]]:
    """See `causal_conv1d`."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    (channels, width), bounds = weight.shape, cu_seqlens.tolist()
    weight, bias = weight.to(kind), bias.to(kind)
    out, states = [], []
    for s, (start, stop) in enumerate(pairwise(bounds)):
        past = x.new_zeros(width - 1, channels) if initial_state is None else initial_state[s].T.to(x.dtype)
        seen = torch.cat([past, x[start:stop]])  # (W - 1 + length, E)
        for t in range(stop - start):
            total = bias
            for k in range(width):
                total = total + weight[:, k] * seen[t + k].to(kind)
            out.append(F.silu(total).to(x.dtype))
        states.append(seen[stop - start :].T)  # (E, W - 1)
    return torch.stack(out), torch.stack(states)


BACKEND = Backend(
    op="causal_conv1d",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=conv,
    gradients=True,
)
