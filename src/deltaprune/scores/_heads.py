"""Recurrences with heads, whose decay is one number a row and head: Mamba-2 and gated DeltaNet.

A head's state S is `(N, P)`, its rows those of the keys:

    S_t = exp(g_t) (I - e_t k_t k_t^T) S_{t-1} + w_t k_t v_t^T

with g the role `decay`, w `delta`, e `erase` (zero where a layer provides none). In gated DeltaNet w = e = beta; in
Mamba-2 w = dt, g = A dt, k = B, v = x. G groups of keys and queries serve H / G consecutive heads each.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from deltaprune.trace import Trace


def has_heads(trace: Trace) -> bool:
    """Whether a layer's decay is one number a row and head."""
    return "decay" in trace.rows


def by_group(trace: Trace, role: str, part: slice | Tensor) -> Float[Tensor, "n G S"]:
    """Numbers of some rows, one a head, float32."""
    return trace[role][part].float().unflatten(1, (trace["query"].shape[1], -1))


def keys(trace: Trace, part: slice | Tensor) -> Float[Tensor, "n G N"]:
    """The keys of some rows, float32."""
    return trace["key"][part].float().unflatten(1, trace["query"].shape[1:])


def paid(trace: Trace, part: slice) -> Float[Tensor, "n"]:
    """What the last of some rows reads of each: the weight of v_j in S_L^T q_L, its size's mean over heads.

    With p_L = q_L and p_{j-1} = exp(g_j) (I - e_j k_j k_j^T) p_j it is w_j k_j . p_j, row by row from the last one;
    without e, where p_j is q_L times a number, all rows at once.
    """
    k, weight, decay = keys(trace, part), by_group(trace, "delta", part), by_group(trace, "decay", part)
    q = trace["query"][part][-1].float()  # (G, N)
    if "erase" not in trace:
        later = decay.flip(0).cumsum(0).flip(0) - decay
        return ((k * q).sum(-1)[..., None] * weight * later.exp()).abs().mean((1, 2))
    erase, kept = by_group(trace, "erase", part), decay.exp()
    p = q[:, None].expand(-1, weight.shape[2], -1)  # (G, S, N)
    found = torch.empty(len(k), device=k.device)
    for j in range(len(k) - 1, -1, -1):
        along = (p * k[j, :, None]).sum(-1)
        found[j] = (along * weight[j]).abs().mean()
        p = kept[j, ..., None] * (p - (erase[j] * along)[..., None] * k[j, :, None])
    return found


def apart(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """psi: 0 where two vectors point the same way, 1 where they point opposite ways, 1/2 where one of them is 0."""
    return (1 - (normalize(a, dim=dim) * normalize(b, dim=dim)).sum(dim)) / 2


def _read(queries: Float[Tensor, "w G N"], state: Float[Tensor, "G S N P"]) -> Float[Tensor, "w HP"]:
    return torch.einsum("wgn,gsnp->wgsp", queries, state).flatten(1)


def retained(trace: Trace, image: Tensor, window: int) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """R_imp and R_uni of `Retention` for an image's rows, the channels of all heads side by side.

    Args:
        trace: of a layer with heads.
        image: the rows, at least one.
        window: readouts that are looked at.
    """
    k, q = keys(trace, image), trace["query"][image].float()
    weight, kept = by_group(trace, "delta", image), by_group(trace, "decay", image).exp()
    v = trace["value"][image].float().unflatten(1, (*weight.shape[1:], -1))  # (n, G, S, P)
    erase = by_group(trace, "erase", image) if "erase" in trace else torch.zeros_like(weight)
    state, new = v.new_zeros(*weight.shape[1:], k.shape[-1], v.shape[-1]), torch.empty(len(k), device=k.device)
    for j in range(len(k)):
        probes, key = q[j : j + window], k[j, :, None, :, None]
        before = _read(probes, state)
        held = (key * state).sum(2, keepdim=True)
        state = kept[j, ..., None, None] * (state - erase[j, ..., None, None] * key * held)
        state = state + weight[j, ..., None, None] * key * v[j, :, :, None]
        new[j] = apart(_read(probes, state), before, dim=-1).mean()
    given = v if "erase" in trace else weight[..., None] * v
    return 1 - apart(_read(k, state), given.flatten(1), dim=-1), new
