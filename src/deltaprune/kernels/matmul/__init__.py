"""Packed rows times a matrix: a projection of a prefill, without its bias."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select

__all__ = ["matmul"]


def matmul(
    x: Float[Tensor, "T k"],
    weight: Float[Tensor, "n k"],
    out: Float[Tensor, "T n"] | None = None,
    backend: str | None = None,
) -> Float[Tensor, "T n"]:
    """x weight^T, summed in float32 (float64 inputs: float64) and rounded once, to the type of both.

    Where it is ours, see the numba backend, a row's result has the same bits among any others. In bfloat16 ours takes
    few rows and torch many; the bits are the same.

    Args:
        x: the rows; they may be cut from wider ones.
        weight: in the type of `x`.
        out: contiguous memory for the result.
        backend: a backend's name; None takes the best one for the device.
    """
    if x.shape[1] != weight.shape[1] or x.dtype != weight.dtype:
        told = f"x {tuple(x.shape)} {x.dtype}, weight {tuple(weight.shape)} {weight.dtype}"
        raise ValueError(f"`matmul`: shapes or types do not fit: {told}.")
    gradients = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return select(__name__, x.device, backend, dtype=x.dtype, gradients=gradients).fn(x, weight, out)
