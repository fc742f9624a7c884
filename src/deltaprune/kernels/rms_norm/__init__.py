"""The norm before a block, with the residual add of the block before it."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select

__all__ = ["rms_norm"]


def rms_norm(
    x: Float[Tensor, "T d"],
    weight: Float[Tensor, "d"],
    eps: float,
    branch: Float[Tensor, "T d"] | None = None,
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> tuple[Float[Tensor, "T d"], Float[Tensor, "T d"]]:
    """Residual add, then RMSNorm, in float32:

        r = x + branch
        normed = weight r / sqrt(mean(r²) + eps)

    as mamba_ssm's `rms_norm_fn(prenorm=True, residual_in_fp32=True)`.

    Args:
        x: the residual stream.
        weight: per feature.
        eps: added to the mean square.
        branch: what the block before adds to the stream; None adds nothing.
        dtype: the type of `normed`, that of the projection which reads it; None takes float32.
        backend: a backend's name; None takes the best one for the device.

    Returns:
        r in float32 (float64 where `x` is; `x` itself where nothing is added to float32) and `normed`.
    """
    if weight.shape != x.shape[1:] or (branch is not None and branch.shape != x.shape):
        given = {"x": x, "weight": weight, "branch": branch}
        told = ", ".join(f"{name} {tuple(t.shape)}" for name, t in given.items() if t is not None)
        raise ValueError(f"`rms_norm`: shapes do not fit: {told}.")
    tensors = (x, weight, branch)
    gradients = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    chosen = select(__name__, x.device, backend, dtype=x.dtype, gradients=gradients)
    return chosen.fn(x, weight, eps, branch, torch.float32 if dtype is None else dtype)
