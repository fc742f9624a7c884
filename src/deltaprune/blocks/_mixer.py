"""The parameters of a Mamba-1 mixer, under mamba_ssm's names."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deltaprune.blocks.quantized import matrix
from deltaprune.blocks.sizes import MambaConfig
from deltaprune.kernels import Quantized


class Mixer(nn.Module):
    """The selective SSM between the norms; holds parameters only, `MambaBlock` runs it."""

    def __init__(self, config: MambaConfig):
        super().__init__()
        inner, rank, states = config.d_inner, config.rank, config.d_state
        self.in_proj = nn.Linear(config.d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.d_conv, groups=inner, padding=config.d_conv - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.d_model, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows and products; the convolution is never quantized."""
        return self.conv1d.weight.dtype

    def matrix(self, name: Literal["in_proj", "x_proj", "dt_proj", "out_proj"]) -> Float[Tensor, "n k"] | Quantized:
        """The weight of a projection, all of which may be quantized."""
        return matrix(getattr(self, name), self.dtype)

    def reset_parameters(self, config: MambaConfig) -> None:
        """mamba_ssm's initialisation: Delta starts log-uniform in [1e-3, 1e-1], out_proj shrinks with depth."""
        nn.init.uniform_(self.dt_proj.weight, -(config.rank**-0.5), config.rank**-0.5)
        step = torch.exp(torch.rand(config.d_inner) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3)).clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # inverse softplus
            self.out_proj.weight.div_(math.sqrt(config.n_layers))
