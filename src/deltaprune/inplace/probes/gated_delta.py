"""Gated DeltaNet (Qwen3.5, MiniCPM-V 4.6, Qwen3-Next).

S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, pad, softplus

from deltaprune.inplace.probes import Probe, Seen, Written, registry
from deltaprune.inplace.probes._columns import columns_first
from deltaprune.inplace.probes._convolution import causal_convolution, continued_convolution

CHUNK = 64  # rows that `last_state` takes at once


@registry.register("Qwen3_5GatedDeltaNet")
@registry.register("Qwen3_5MoeGatedDeltaNet")
class GatedDelta(Probe):
    """step, delta: beta = sigmoid(b), the write gate, one a head `(H,)`; alpha = exp(-exp(A_log) softplus(a + dt_bias))
    only forgets, and is no measure of what is written. key, query: k and q after the convolution, of unit norm in each
    head; k side by side, q apart `(G, K)`. value: v after it. decay: log alpha, one a head. output: S_t q_t, the heads
    side by side.
    """

    sees = "state"
    offers = frozenset({"step", "delta", "key", "value", "query", "decay", "erase", "output"})
    gate = "norm"
    writes_alone = True

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        told = {}
        if needs & {"step", "delta", "erase"}:
            told["delta"] = told["erase"] = mixer.in_proj_b(seen.hidden).sigmoid().float()
            told["step"] = told["delta"].mean(-1)
        if needs & {"key", "value", "query"}:
            told |= self._convolved(mixer, mixer.in_proj_qkv(seen.hidden), seen)
        if "decay" in needs:
            told["decay"] = log_decay(mixer, mixer.in_proj_a(seen.hidden))
        return told

    @staticmethod
    def _convolved(mixer: Any, mixed: Tensor, seen: Seen) -> dict[str, Tensor]:
        """k, v and q from what they are before the convolution."""
        mixed = causal_convolution(mixer.conv1d, mixed, seen.valid, mixer.activation)
        query, key, value = mixed.split([mixer.key_dim, mixer.key_dim, mixer.value_dim], -1)
        query, key = (normalize(x.float().unflatten(-1, (-1, mixer.head_k_dim)), dim=-1) for x in (query, key))
        return {"key": key.flatten(-2), "value": value.float(), "query": query}

    def written(self, mixer: Any) -> Written:
        """k, v, beta and g of every row; z, and q, which the convolution reads some rows back, of updated ones."""
        needed = {"in_proj_qkv": (slice(mixer.key_dim, None),), "in_proj_z": ()}
        convolved = 1 - mixer.key_dim / mixer.conv_dim
        return Written(needed, "out_proj", reach=mixer.conv_kernel_size - 1, convolved=convolved)

    def write(self, mixer: Any, hidden: Tensor, cache: Any) -> None:
        """The convolution's state and S behind these rows; no row is read, so q is left out but for the former."""
        l, queries, width = mixer.layer_idx, mixer.key_dim, mixer.conv_kernel_size
        before, state = cache.get_conv_state(l, state_idx=0), cache.get_recurrent_state(l, state_idx=0)
        mixed = columns_first(mixer.in_proj_qkv, hidden, slice(queries, None))  # k and v
        asked = columns_first(mixer.in_proj_qkv, hidden[:, -width:], slice(queries))  # q, for the convolution
        reached = torch.cat([asked, mixed[..., -width:]], 1)
        mixed = continued_convolution(mixer.conv1d, mixed, before, slice(queries, None), mixer.activation)
        key, value = mixed.split([mixer.key_dim, mixer.value_dim], -1)
        decay = log_decay(mixer, mixer.in_proj_a(hidden))
        key, value = key.unflatten(-1, (-1, mixer.head_k_dim)), value.unflatten(-1, (-1, mixer.head_v_dim))
        state = last_state(key, value, decay, mixer.in_proj_b(hidden).sigmoid(), state)
        cache.update_conv_state(reached, l, conv_kernel_size=width)
        cache.update_recurrent_state(state, l)


@registry.register("Qwen3NextGatedDeltaNet")
class GroupedGatedDelta(GatedDelta):
    """The same where one projection gives q, k, v and z, a group of them for each head of the keys."""

    writes_alone = False

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        told = {}
        if needs & {"step", "delta", "erase", "decay"}:
            both = mixer.in_proj_ba(seen.hidden).unflatten(-1, (mixer.num_k_heads, 2, -1))
            told["delta"] = told["erase"] = both[..., 0, :].flatten(-2).sigmoid().float()
            told["step"] = told["delta"].mean(-1)
            told["decay"] = log_decay(mixer, both[..., 1, :].flatten(-2))
        if needs & {"key", "value", "query"}:
            apart = mixer.fix_query_key_value_ordering(mixer.in_proj_qkvz(seen.hidden), mixer.in_proj_ba(seen.hidden))
            mixed = torch.cat([part.flatten(2) for part in apart[:3]], -1)
            told |= self._convolved(mixer, mixed, seen)
        return told

    def written(self, mixer: Any) -> Written:
        """As above: k and v of each group."""
        k, v = mixer.head_k_dim, mixer.head_v_dim * mixer.num_v_heads // mixer.num_k_heads
        starts = range(0, mixer.num_k_heads * 2 * (k + v), 2 * (k + v))
        needed = tuple(slice(start + k, start + 2 * k + v) for start in starts)
        return Written({"in_proj_qkvz": needed}, "out_proj", reach=mixer.conv_kernel_size - 1)


def log_decay(mixer: Any, a: Float[Tensor, "B n H"]) -> Float[Tensor, "B n H"]:
    """g = log alpha, from the projection that it comes from."""
    return -mixer.A_log.float().exp() * softplus(a.float() + mixer.dt_bias.float())


def last_state(
    key: Float[Tensor, "B n G K"],
    value: Float[Tensor, "B n H V"],
    decay: Float[Tensor, "B n H"],
    beta: Float[Tensor, "B n H"],
    state: Float[Tensor, "B H K V"] | None,
) -> Float[Tensor, "B H K V"]:
    """S behind n rows, without what any row reads: on a CPU about .4 of the time of transformers' chunked rule.

    The same chunked form (arXiv 2412.06464, section 3.3), in float32: within a chunk of c rows, with g the sum of the
    decays up to a row, A_ij = beta_i (k_i . k_j) exp(g_i - g_j) below the diagonal and 1 on it,

        u = A^-1 diag(beta) (v - diag(exp(g)) k S),    S <- exp(g_c) S + k^T diag(exp(g_c - g)) u

    Args:
        key: before it is normalised; each of the G heads is that of H / G consecutive heads of the values.
        value: the values.
        decay: logarithm of alpha, at most 0.
        beta: the write gate.
        state: before these rows; zero if None.
    """
    batch, heads, groups = len(key), value.shape[2], key.shape[2]
    shared, width = heads // groups, value.shape[-1]
    k = _chunks(key)  # (n / c, B G, c, K)
    k = k * (torch.linalg.vector_norm(k, dim=-1, keepdim=True).square() + 1e-6).rsqrt()
    v = _chunks(value.unflatten(2, (groups, shared)))  # (n / c, B G, c, H / G, V), as below
    b, g = (_chunks(x.unflatten(2, (groups, shared))).transpose(-1, -2) for x in (beta, decay))
    g = g.cumsum(-1)
    system = (g[..., :, None] - g[..., None, :]).tril_().exp_().mul_((k @ k.transpose(-1, -2))[:, :, None])
    eye = torch.eye(CHUNK, device=k.device).expand_as(system)
    solved = torch.linalg.solve_triangular(system.mul_(b[..., None]), eye, upper=False, unitriangular=True)
    solved = solved.mul_(b[..., None, :])
    reading, keeping = g.exp().transpose(-1, -2)[..., None], (g[..., -1:] - g).exp()[..., None]
    lasting = g[..., -1].exp()[:, :, None, :, None]
    if state is None:
        state = value.new_zeros(batch, heads, key.shape[-1], width)
    s = state.float().unflatten(1, (groups, shared)).flatten(0, 1).transpose(1, 2)  # (B G, K, H / G, V)
    for i in range(len(k)):
        read = (k[i] @ s.flatten(2)).unflatten(-1, (shared, width)).mul_(reading[i])
        u = (solved[i] @ (v[i] - read).transpose(1, 2)).mul_(keeping[i])
        s = s * lasting[i] + (k[i].transpose(-1, -2) @ u.transpose(1, 2).flatten(2)).unflatten(-1, (shared, width))
    return s.transpose(1, 2).unflatten(0, (batch, groups)).flatten(1, 2)


def _chunks(x: Tensor) -> Tensor:
    """`(B, n, G, ...)` -> float32 `(n / c, B G, c, ...)`, zero behind the last row."""
    n, groups = x.shape[1:3]
    flat = pad(x.float().flatten(2), (0, 0, 0, -n % CHUNK)).unflatten(1, (-1, CHUNK)).unflatten(-1, (groups, -1))
    return flat.permute(1, 0, 3, 2, 4).flatten(1, 2).contiguous().unflatten(-1, x.shape[3:])
