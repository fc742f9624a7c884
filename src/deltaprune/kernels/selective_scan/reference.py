"""The scan as the equations stand, token by token, on any device and in any floating type."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels.selective_scan._scan import Scan, working_type


def scan(
    u: Float[Tensor, "T E"],
    dt: Float[Tensor, "T E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "T N"],
    C: Float[Tensor, "T N"],
    D: Float[Tensor, "E"],
    z: Float[Tensor, "T E"],
    dt_bias: Float[Tensor, "E"],
    cu_seqlens: Int32[Tensor, "S_plus_1"],
    initial_state: Float[Tensor, "S E N"] | None,
    extras: frozenset[str],
) -> Scan:
    """See `selective_scan`."""
    kind = working_type(u)
    A, B, C, D, dt_bias = (x.to(kind) for x in (A, B, C, D, dt_bias))
    bounds = cu_seqlens.tolist()
    states: list[Tensor] = []
    rows: dict[str, list[Tensor]] = {"out": [], "delta": [], "delta_mean": [], "y": []}
    for s, (start, stop) in enumerate(pairwise(bounds)):
        h = A.new_zeros(A.shape) if initial_state is None else initial_state[s].to(kind)  # (E, N)
        for t in range(start, stop):
            u_t = u[t].to(kind)
            delta = F.softplus(dt[t].to(kind) + dt_bias, threshold=20.0)  # (E,)
            h = torch.exp(delta[:, None] * A) * h + (delta * u_t)[:, None] * B[t]
            y = (h * C[t]).sum(-1) + D * u_t  # (E,)
            out = (y * F.silu(z[t].to(kind))).to(u.dtype)
            for name, row in zip(rows, (out, delta, delta.mean(), y), strict=True):
                rows[name].append(row)
        states.append(h)
    filled = {name: torch.stack(rows[name]) for name in ("out", *extras)}
    return Scan(state=torch.stack(states), **filled)


BACKEND = Backend(
    op="selective_scan",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=scan,
    gradients=True,
)
