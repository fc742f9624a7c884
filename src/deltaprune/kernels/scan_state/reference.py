"""The state's recurrence as the equations stand, token by token, on any device and in any floating type."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels.scan_state._state import ScanState
from deltaprune.kernels.selective_scan._scan import working_type


def scan(
    u: Float[Tensor, "T E"],
    dt: Float[Tensor, "T E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "T N"],
    dt_bias: Float[Tensor, "E"],
    cu_seqlens: Int32[Tensor, "S_plus_1"],
    initial_state: Float[Tensor, "S E N"] | None,
    extras: frozenset[str],
) -> ScanState:
    """See `scan_state`."""
    kind = working_type(u)
    A, B, dt_bias = (x.to(kind) for x in (A, B, dt_bias))
    states: list[Tensor] = []
    rows: dict[str, list[Tensor]] = {"delta": [], "delta_mean": []}
    for s, (start, stop) in enumerate(pairwise(cu_seqlens.tolist())):
        h = A.new_zeros(A.shape) if initial_state is None else initial_state[s].to(kind)  # (E, N)
        for t in range(start, stop):
            delta = F.softplus(dt[t].to(kind) + dt_bias, threshold=20.0)  # (E,)
            h = torch.exp(delta[:, None] * A) * h + (delta * u[t].to(kind))[:, None] * B[t]
            for name, row in zip(rows, (delta, delta.mean()), strict=True):
                rows[name].append(row)
        states.append(h)
    return ScanState(torch.stack(states), **{name: torch.stack(rows[name]) for name in extras})


BACKEND = Backend(
    op="scan_state",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=scan,
    gradients=True,
)
