"""Matrix products and copies of a layer, on a CPU in memory that the layers share."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels import Quantized, empty, matmul, quantized_matmul


def own(x: Float[Tensor, "T d"]) -> Float[Tensor, "T d"]:
    """A copy that may be written to; on a CPU in memory that the layers share, see `reuse`."""
    if x.device.type != "cpu":
        return x.clone()
    return empty("residual_add.out", x.shape, x.dtype, beside=x).copy_(x)


def product(name: str, x: Float[Tensor, "T k"], weight: Float[Tensor, "n k"] | Quantized) -> Float[Tensor, "T n"]:
    """The matrix product of a projection without its bias; on a CPU into memory that the layers share, see `reuse`."""
    if isinstance(weight, Quantized):
        return quantized_matmul(x, weight, empty(name, (len(x), len(weight)), x.dtype))
    gradients = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if x.device.type != "cpu" or gradients:
        return F.linear(x, weight)
    return matmul(x, weight, empty(name, (len(x), len(weight)), x.dtype))
