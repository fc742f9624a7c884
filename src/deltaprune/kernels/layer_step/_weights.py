"""What a layer's step reads besides its state."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels.quantized import Quantized


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The tensors of one layer under mamba_ssm's names, `M` = 2 E and `P` = R + 2 N.

    Backends may keep what they made of them as long as this object lives.
    """

    norm: Float[Tensor, "d"]
    in_proj: Float[Tensor, "M d"] | Quantized
    conv: Float[Tensor, "E W"]
    conv_bias: Float[Tensor, "E"]
    x_proj: Float[Tensor, "P E"] | Quantized
    dt_proj: Float[Tensor, "E R"] | Quantized
    dt_bias: Float[Tensor, "E"]
    A_log: Float[Tensor, "E N"]
    D: Float[Tensor, "E"]
    out_proj: Float[Tensor, "d E"] | Quantized
    eps: float

    def tensors(self) -> list[Tensor]:
        """All of them that are not quantized."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]
