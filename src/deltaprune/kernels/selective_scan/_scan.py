"""What a scan gives back."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Scan:
    """The scan of T packed rows, E channels, S sequences, N states per channel.

    Attributes:
        out: the gated output, in the type of `u`.
        state: h after each sequence's last row, float32 (float64 where the inputs are).
        delta: Δ = softplus(dt + dt_bias), if asked for.
        delta_mean: Δ averaged over the channels, if asked for.
        y: the output before the gate, D u included, if asked for.
    """

    out: Float[Tensor, "T E"]
    state: Float[Tensor, "S E N"]
    delta: Float[Tensor, "T E"] | None = None
    delta_mean: Float[Tensor, "T"] | None = None
    y: Float[Tensor, "T E"] | None = None
