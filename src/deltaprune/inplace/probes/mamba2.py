"""Mamba-2 (Nemotron-H, Bamba, Granite 4): h_t = exp(A dt_t) h_{t-1} + dt_t B_t x_t^T, A one number a head."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from deltaprune.inplace.probes import Probe, Seen, Written, registry
from deltaprune.inplace.probes._columns import columns, columns_first
from deltaprune.inplace.probes._convolution import causal_convolution, continued_convolution


@registry.register("NemotronHMamba2Mixer")
@registry.register("BambaMixer")
@registry.register("GraniteMoeHybridMambaLayer")
class Mamba2(Probe):
    """step, delta: dt = softplus(dt + dt_bias), not below the layer's lower limit `(H,)`; its projection alone is
    computed again. key, value, query: B, x and C after the convolution; the groups of B side by side, those of C apart
    `(G, N)`. decay: A dt, the logarithm of what is kept, one a head. output: C h + D x, the heads side by side.
    """

    sees = "state"
    offers = frozenset({"step", "delta", "key", "value", "query", "decay", "output"})
    gate = "norm"
    writes_alone = True
    shortest = 2  # a single row is computed as in decoding, where Nemotron-H has no lower limit of dt

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        told, inner, state = {}, mixer.intermediate_size, mixer.n_groups * mixer.ssm_state_size
        if needs & {"step", "delta", "decay"}:
            told["delta"] = step_size(mixer, seen.hidden)
            told["step"] = told["delta"].mean(-1)
            told["decay"] = told["delta"] * -mixer.A_log.float().exp()
        if needs & {"key", "value", "query"}:
            mixed = columns(mixer.in_proj, seen.hidden, slice(inner, inner + mixer.conv_dim))
            mixed = causal_convolution(mixer.conv1d, mixed, seen.valid, mixer.activation).float()
            told["value"], told["key"], query = mixed.split([inner, state, state], -1)
            told["query"] = query.unflatten(-1, (mixer.n_groups, -1))
        return told

    def written(self, mixer: Any) -> Written:
        """x, B and dt of every row; the gate, and C, which the convolution reads some rows back, of updated ones."""
        inner, state = mixer.intermediate_size, mixer.n_groups * mixer.ssm_state_size
        needed = slice(inner, 2 * inner + state), slice(inner + mixer.conv_dim, None)
        convolved = (inner + state) / mixer.conv_dim
        return Written({"in_proj": needed}, "out_proj", reach=mixer.conv_kernel_size - 1, convolved=convolved)

    def write(self, mixer: Any, hidden: Tensor, cache: Any) -> None:
        """The convolution's state and h behind these rows; no row is read, so C is left out but for the former."""
        l, width, inner = mixer.layer_idx, mixer.conv_kernel_size, mixer.intermediate_size
        needed, end = inner + mixer.n_groups * mixer.ssm_state_size, inner + mixer.conv_dim
        before, state = cache.get_conv_state(l, state_idx=0), cache.get_recurrent_state(l, state_idx=0)
        mixed = columns_first(mixer.in_proj, hidden, slice(inner, inner + needed))  # x and B
        asked = columns_first(mixer.in_proj, hidden[:, -width:], slice(inner + needed, end))  # C, for the convolution
        reached = torch.cat([mixed[..., -width:], asked], 1)
        mixed = continued_convolution(mixer.conv1d, mixed, before, slice(needed), mixer.activation)
        x, key = mixed[..., :inner].unflatten(-1, (mixer.num_heads, -1)), mixed[..., inner:]
        key = key.unflatten(-1, (mixer.n_groups, -1))
        state = last_state(x, step_size(mixer, hidden), -mixer.A_log.float().exp(), key, state)
        cache.update_conv_state(reached, l, conv_kernel_size=width)
        cache.update_recurrent_state(state, l)


def step_size(mixer: Any, hidden: Tensor) -> Float[Tensor, "B n H"]:
    """dt of each head, float32; its projection alone is computed."""
    dt = columns(mixer.in_proj, hidden, slice(mixer.intermediate_size + mixer.conv_dim, None)).float()
    return softplus(dt + mixer.dt_bias.float()).clamp(*mixer.time_step_limit)


def last_state(
    x: Float[Tensor, "B n H P"],
    dt: Float[Tensor, "B n H"],
    a: Float[Tensor, "H"],
    key: Float[Tensor, "B n G N"],
    state: Float[Tensor, "B H P N"] | None,
) -> Float[Tensor, "B H P N"]:
    """h behind n rows, without what any row reads, in float32: one product, as no row waits for another.

        h <- exp(sum_t a dt_t) h + sum_t exp(a sum_{s > t} dt_s) dt_t x_t B_t^T

    Args:
        x: after the convolution.
        dt: step sizes, positive.
        a: A, negative.
        key: B; that of a group serves H / G consecutive heads.
        state: before these rows; zero if None.
    """
    groups = key.shape[2]
    exponent = (dt * a).flip(1).cumsum(1).flip(1)  # from a row on, that row included: small where much is left
    weight = dt * (exponent - dt * a).exp()
    written = (x.float() * weight[..., None]).unflatten(2, (groups, -1))  # (B, n, G, H / G, P)
    new = written.flatten(3).permute(0, 2, 3, 1) @ key.float().transpose(1, 2)  # (B, G, H / G P, N)
    new = new.unflatten(2, (-1, x.shape[-1])).flatten(1, 2)
    return new if state is None else new + exponent[:, 0].exp()[..., None, None] * state.float()


@registry.register("NemotronHMoE")
@registry.register("NemotronHMLP")
class Experts(Probe):
    """A block of Nemotron-H without a mixer: rows do not see each other in it."""

    sees = "none"

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        return {}
