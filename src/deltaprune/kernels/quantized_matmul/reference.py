"""The product with the matrix that the numbers and scales stand for."""

import torch
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels.quantized import Quantized


def multiply(x: Tensor, weight: Quantized, out: Tensor) -> Tensor:
    """See `quantized_matmul`."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return out.copy_((x.to(kind) @ weight.dequantized(kind).t()).to(x.dtype))


BACKEND = Backend(
    op="quantized_matmul",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=multiply,
    capturable=True,
)
