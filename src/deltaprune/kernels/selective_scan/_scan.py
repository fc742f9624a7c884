"""What a scan gives back."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EXTRAS = frozenset({"delta", "delta_mean", "y"})


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


def working_type(u: Tensor) -> torch.dtype:
    """The type that states and extras have: float32, or float64 for float64 inputs."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def empty(
    u: Float[Tensor, "0 E"],
    A: Float[Tensor, "E N"],
    sequences: int,
    initial_state: Float[Tensor, "S E N"] | None,
    extras: frozenset[str],
) -> Scan:
    """The scan of no rows: the states pass through."""
    rows = u.new_empty(u.shape, dtype=working_type(u))
    nothing = {"delta": rows, "delta_mean": rows.new_empty(0), "y": rows}
    state = untouched(u, A, sequences, initial_state)
    return Scan(torch.empty_like(u), state, **{name: nothing[name] for name in extras})


def untouched(
    u: Float[Tensor, "T E"], A: Float[Tensor, "E N"], sequences: int, initial_state: Float[Tensor, "S E N"] | None
) -> Float[Tensor, "S E N"]:
    """The states before the first row, as a tensor of their own: zeros where there are none."""
    if initial_state is None:
        return u.new_zeros((sequences, *A.shape), dtype=working_type(u))
    return initial_state.to(working_type(u), copy=True)
