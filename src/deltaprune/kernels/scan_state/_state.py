"""What a scan that only writes gives back."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

EXTRAS = frozenset({"delta", "delta_mean"})


@dataclass(frozen=True)
class ScanState:
    """What T packed rows of E channels leave behind in S sequences, N states per channel.

    Attributes:
        state: h after each sequence's last row, float32 (float64 where the inputs are).
        delta: Δ = softplus(dt + dt_bias), if asked for.
        delta_mean: Δ averaged over the channels, if asked for.
    """

    state: Float[Tensor, "S E N"]
    delta: Float[Tensor, "T E"] | None = None
    delta_mean: Float[Tensor, "T"] | None = None
