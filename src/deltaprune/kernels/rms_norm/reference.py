"""The norm by torch, on any device and in any floating type."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import Backend


def norm(
    x: Float[Tensor, "T d"],
    weight: Float[Tensor, "d"],
    eps: float,
    branch: Float[Tensor, "T d"] | None,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "T d"], Float[Tensor, "T d"]]:
    """See `rms_norm`."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    x = x.to(kind)
    x = x if branch is None else x + branch  # promotes the branch
    return x, F.rms_norm(x, weight.shape, weight.to(kind), eps).to(dtype)


BACKEND = Backend(
    op="rms_norm",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=norm,
    gradients=True,
    capturable=True,
)
