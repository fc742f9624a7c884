"""Rows times a quantized matrix, for one row of decoding as well as for the rows of a prefill."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select
from deltaprune.kernels.quantized import Quantized

__all__ = ["quantized_matmul"]


def quantized_matmul(
    x: Float[Tensor, "T k"], weight: Quantized, out: Tensor | None = None, backend: str | None = None
) -> Float[Tensor, "T n"]:
    """x weight^T, rounded once to the type of `x`.

    Few rows are multiplied by the numbers as they are, in float32; on a CPU int4 numbers and bfloat16 rows in whole
    numbers, where the processor can: then each 32 numbers of a row are rounded to 1/254 of their largest. For many the
    matrix is widened to the type of `x`, which in bfloat16 rounds each weight.

    Args:
        x: the rows, in the weight's `dtype`; they may be cut from wider ones.
        weight: the matrix.
        out: where to, contiguous, in a type that holds the rounded results; by default new memory in the type of `x`.
        backend: a backend's name; None takes the best one for the device.
    """
    if x.shape[1] != weight.shape[1] or x.dtype != weight.dtype:
        told = f"x {tuple(x.shape)} {x.dtype}, weight {tuple(weight.shape)} {weight.dtype}"
        raise ValueError(f"`quantized_matmul`: shapes or types do not fit: {told}.")
    out = torch.empty(len(x), len(weight), dtype=x.dtype, device=x.device) if out is None else out
    gradients = torch.is_grad_enabled() and x.requires_grad
    return select(__name__, x.device, backend, dtype=x.dtype, gradients=gradients).fn(x, weight, out)
