"""Modules whose weight is int8 or int4, in place of a `Linear` or an `Embedding`; see `kernels/quantized.py`.

in_proj and out_proj, 95 % of a layer's weights, have the form that is asked for. x_proj and dt_proj, from which the
step sizes come, are int8 in either form.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deltaprune.blocks.sizes import MambaConfig
from deltaprune.kernels.quantized import GROUP, Quantized


def forms_in_mixer(config: MambaConfig, form: str) -> dict[str, str]:
    """The projections of a mixer that are quantized under a form, and each one's own: those in whole groups."""
    forms = {"in_proj": form, "x_proj": "int8", "dt_proj": "int8", "out_proj": form}
    return forms if config.rank % GROUP == 0 else {name: own for name, own in forms.items() if name != "dt_proj"}


class QuantizedWeight(nn.Module):
    """A matrix: its parameters are `weight`, the numbers, `scale`, and the bias of what it replaces, if any."""

    def __init__(self, rows: int, columns: int, form: str, bias: Tensor | None = None):
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(torch.empty_like(bias), requires_grad=False)
        held, kind = (columns, torch.int8) if form == "int8" else (columns // 2, torch.uint8)
        scale = torch.empty(rows) if form == "int8" else torch.empty(rows, columns // GROUP, dtype=torch.bfloat16)
        self.weight = nn.Parameter(torch.empty(rows, held, dtype=kind), requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)

    def matrix(self, dtype: torch.dtype) -> Quantized:
        """What a matrix product takes as its weight, for rows of this type."""
        return Quantized(self.weight, self.scale, dtype)

    def forward(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "*b k"]:
        """Some of its rows, float32, as an embedding gives them."""
        return self.matrix(torch.float32).rows(ids)


def matrix(module: nn.Module, dtype: torch.dtype) -> Float[Tensor, "n k"] | Quantized:
    """The weight of a `Linear` or `Embedding`, or what replaces it where the module is quantized."""
    return module.matrix(dtype) if isinstance(module, QuantizedWeight) else module.weight  # pyright: ignore
