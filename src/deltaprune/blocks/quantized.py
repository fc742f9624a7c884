"""Modules whose weight is int8 or int4, in place of a `Linear` or an `Embedding`; see `kernels/quantized.py`.

Of a layer in_proj and out_proj are quantized: 95 % of its weights. What the step sizes come from is not.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune.kernels.quantized import GROUP, Quantized, dequantize

PROJECTIONS = ("in_proj", "out_proj")


class QuantizedWeight(nn.Module):
    """A matrix without bias: its parameters are `weight`, the numbers, and `scale`."""

    def __init__(self, rows: int, columns: int, form: str):
        super().__init__()
        held, kind = (columns, torch.int8) if form == "int8" else (columns // 2, torch.uint8)
        scale = torch.empty(rows) if form == "int8" else torch.empty(rows, columns // GROUP, dtype=torch.bfloat16)
        self.weight = nn.Parameter(torch.empty(rows, held, dtype=kind), requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)

    def matrix(self, dtype: torch.dtype) -> Quantized:
        """What a matrix product takes as its weight, for rows of this type."""
        return Quantized(self.weight, self.scale, dtype)

    def forward(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b k"]:
        """Some of its rows, float32, as an embedding gives them."""
        rows = dequantize(self.weight[ids.reshape(-1)], self.scale[ids.reshape(-1)])
        return rows.reshape(*ids.shape, -1)


def matrix(module: nn.Module, dtype: torch.dtype) -> Float[Tensor, "n k"] | Quantized:
    """The weight of a `Linear` or `Embedding`, or what replaces it where the module is quantized."""
    return module.matrix(dtype) if isinstance(module, QuantizedWeight) else module.weight  # pyright: ignore
