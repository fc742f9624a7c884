"""A few rows times a large matrix, bound by reading the matrix: the product of decoding."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select
from deltaprune.kernels.quantized import Quantized
from deltaprune.kernels.quantized_matmul import quantized_matmul

__all__ = ["matvec"]


def matvec(
    x: Float[Tensor, "B k"],
    weight: Float[Tensor, "n k"] | Quantized,
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Float[Tensor, "B n"]:
    """x weight^T, summed in float32 (float64 inputs: float64) and rounded once, to the type of both.

    Args:
        x: the rows; they may be cut from wider ones.
        weight: in the type of `x`; a quantized one is multiplied by `quantized_matmul`.
        dtype: in which the rounded results are given; None takes the type of `x`.
        backend: a backend's name; None takes the best one for the device.
    """
    if isinstance(weight, Quantized):
        out = torch.empty(len(x), len(weight), dtype=dtype or x.dtype, device=x.device)
        return quantized_matmul(x, weight, out, backend)
    if x.shape[1] != weight.shape[1] or x.dtype != weight.dtype:
        told = f"x {tuple(x.shape)} {x.dtype}, weight {tuple(weight.shape)} {weight.dtype}"
        raise ValueError(f"`matvec`: shapes or types do not fit: {told}.")
    gradients = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return select(__name__, x.device, backend, dtype=x.dtype, gradients=gradients).fn(x, weight, dtype or x.dtype)
