"""The norm in float64, rounded at the end."""

import torch
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
    stream = x.float() if branch is None else x.float() + branch
    wide = stream.double()
    return stream, (wide / (wide.square().mean(1, keepdim=True) + eps).sqrt() * weight.double()).to(dtype)


BACKEND = Backend(
    op="rms_norm",
    name="careful",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=norm,
    priority=-1,
)
