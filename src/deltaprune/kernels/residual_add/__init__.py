"""What a block adds to the residual stream."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select

__all__ = ["residual_add"]


def residual_add(
    x: Float[Tensor, "T d"], branch: Float[Tensor, "T d"], backend: str | None = None
) -> Float[Tensor, "T d"]:
    """x + branch, in float32 (float64 where `x` is).

    Args:
        x: the residual stream; it is not written to.
        branch: the block's output, of any floating type.
        backend: a backend's name; None takes the best one for the device.
    """
    gradients = torch.is_grad_enabled() and (x.requires_grad or branch.requires_grad)
    return select(__name__, x.device, backend, dtype=x.dtype, gradients=gradients).fn(x, branch)
