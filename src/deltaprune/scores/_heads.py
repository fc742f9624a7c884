"""Recurrences with heads, whose decay is one number a row and head: Mamba-2 and gated DeltaNet.

A head's state S is `(N, P)`, its rows those of the keys:

    S_t = exp(g_t) (I - e_t k_t k_t^T) S_{t-1} + w_t k_t v_t^T

with g the role `decay`, w `delta`, e `erase` (zero where a layer provides none). In gated DeltaNet w = e = beta; in
Mamba-2 w = dt, g = A dt, k = B, v = x. G groups of keys and queries serve H / G consecutive heads each.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import solve_triangular
from torch.nn.functional import normalize, pad

from deltaprune.trace import Trace

CHUNK = 64  # rows that are taken at once


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

    With p_L = q_L and p_{j-1} = (I - e_j k_j k_j^T) p_j it is w_j exp(g_{j+1} + ... + g_L) k_j . p_j. Chunk by chunk
    from the last row, a_j = k_j . p_j of a chunk's rows solves a triangular system, p that of the chunk's last row:

        a_j + sum_{i>j} (k_j . k_i) e_i a_i = k_j . p
    """
    k, weight, decay = keys(trace, part), by_group(trace, "delta", part), by_group(trace, "decay", part)
    q = trace["query"][part][-1].float()  # (G, N)
    later = decay.flip(0).cumsum(0).flip(0) - decay
    along = (k * q).sum(-1)[..., None]
    if "erase" in trace:
        p, found = q[:, None].expand(-1, weight.shape[2], -1), []  # (G, S, N)
        chunks = zip(k.split(CHUNK), by_group(trace, "erase", part).split(CHUNK), strict=True)
        for key, erase in reversed([*chunks]):
            key, erase = key.transpose(0, 1), erase.permute(1, 2, 0)  # (G, c, N), (G, S, c)
            system = (key @ key.mT)[:, None] * erase[..., None, :]
            a = solve_triangular(system, (p @ key.mT)[..., None], upper=True, unitriangular=True)[..., 0]
            p = p - (a * erase) @ key
            found.append(a.permute(2, 0, 1))
        along = torch.cat(found[::-1])
    return (along * weight * later.exp()).abs().mean((1, 2))


def apart(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """psi: 0 where two vectors point the same way, 1 where they point opposite ways, 1/2 where one of them is 0."""
    return (1 - (normalize(a, dim=dim) * normalize(b, dim=dim)).sum(dim)) / 2


def retained(trace: Trace, image: Tensor, window: int) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """R_imp and R_uni of `Retention` for an image's rows, the channels of all heads side by side.

    Chunk by chunk: with S the state before the chunk and c_t the sum of the chunk's g up to row t,
    S_t = exp(c_t) S + sum_{m<=t} exp(c_t - c_m) k_m u_m^T, where u solves a triangular system (u = w v where nothing is
    erased):

        u_t + e_t sum_{m<t} exp(c_t - c_m) (k_t . k_m) u_m = w_t v_t - e_t exp(c_t) S^T k_t

    Args:
        trace: of a layer with heads.
        image: the rows, at least one.
        window: readouts that are looked at.
    """
    k, q, n = keys(trace, image), trace["query"][image].float(), len(image)
    window = min(window, n)
    weight, decay = by_group(trace, "delta", image), by_group(trace, "decay", image)
    v = trace["value"][image].float().unflatten(1, (*weight.shape[1:], -1))  # (n, G, S, P)
    erase = by_group(trace, "erase", image) if "erase" in trace else None
    given = v if erase is not None else weight[..., None] * v
    ahead = pad(q, (0, 0, 0, 0, 0, window))  # windows end with the image
    state, new = v.new_zeros(*weight.shape[1:], k.shape[-1], v.shape[-1]), []
    last = v.new_zeros(window + 1, given[0].numel())  # what the next rows read of the state behind the last row
    for start in range(0, n, CHUNK):
        part = slice(start, min(n, start + CHUNK))
        key, g = k[part].transpose(0, 1), decay[part].cumsum(0).permute(1, 2, 0)  # (G, c, N), (G, S, c)
        fading = (g[..., :, None] - g[..., None, :]).tril().exp().tril()  # (G, S, c, c)
        u = (weight[part][..., None] * v[part]).permute(1, 2, 0, 3)  # (G, S, c, P)
        if erase is not None:
            e = erase[part].permute(1, 2, 0)[..., None]
            u = u - e * (g.exp()[..., None] * (key[:, None] @ state))
            u = solve_triangular(e * fading * (key @ key.mT)[:, None], u, upper=False, unitriangular=True)
        shifted = (ahead[start + o : part.stop + o].transpose(0, 1)[:, None] for o in range(window + 1))
        read = [g.exp()[..., None] * (query @ state) + (fading * (query @ key[:, None].mT)) @ u for query in shifted]
        reads = torch.stack(read).permute(0, 3, 1, 2, 4).flatten(2)  # (w + 1, c, H P): of S_i by q_{i + o}
        state = g[..., -1:, None].exp() * state + key[:, None].mT @ (fading[..., -1, :, None] * u)
        before = torch.cat([last[1:, None], reads[1:, :-1]], 1)
        there = torch.arange(start, part.stop, device=k.device) + torch.arange(window, device=k.device)[:, None] < n
        new.append((apart(reads[:-1], before, dim=-1) * there).sum(0) / there.sum(0))
        last = reads[:, -1]
    known = torch.einsum("ngk,gskp->ngsp", k, state).flatten(1)
    return 1 - apart(known, given.flatten(1), dim=-1), torch.cat(new)
