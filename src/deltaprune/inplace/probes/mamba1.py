"""Mamba-1 (Jamba): h_t = exp(Delta_t A) h_{t-1} + Delta_t u_t B_t, Delta one number a channel."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from deltaprune.inplace.probes import Probe, Seen, Written, registry
from deltaprune.inplace.probes._columns import columns
from deltaprune.inplace.probes._convolution import causal_convolution


@registry.register("JambaMambaMixer")
class Mamba1(Probe):
    """step, delta: Delta = softplus(dt + bias) `(E,)`. value: u, x after the convolution; key, query: B and C `(N,)`.
    decay: A `(E, N)`, one for the layer. As in our own block, so that every score of Mamba-1 reads them.
    """

    sees = "state"
    offers = frozenset({"step", "delta", "key", "value", "query", "decay"})
    of_layer = frozenset({"decay"})

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        x = columns(mixer.in_proj, seen.hidden, slice(mixer.intermediate_size))
        u = causal_convolution(mixer.conv1d, x, seen.valid, mixer.activation)
        told = {"value": u.float(), "decay": -mixer.A_log.float().exp()}
        if needs & {"step", "delta", "key", "query"}:
            rank, states = mixer.time_step_rank, mixer.ssm_state_size
            parts = mixer.x_proj(u).split([rank, states, states], -1)
            dt, key, query = (_normed(mixer, *each).float() for each in zip(("dt", "b", "c"), parts, strict=True))
            bias = mixer.dt_proj.bias
            step = linear(dt, mixer.dt_proj.weight.float(), None if bias is None else bias.float())
            told |= {"key": key, "query": query, "delta": softplus(step)}
            told["step"] = told["delta"].mean(-1)
        return {role: told[role] for role in needs}

    def written(self, mixer: Any) -> Written:
        """x, from which u, Delta and B come, of every row; z of updated ones."""
        return Written({"in_proj": (slice(mixer.intermediate_size),)}, "out_proj")


def _normed(mixer: Any, name: str, x: Tensor) -> Tensor:
    norm: nn.Module | None = dict(mixer.named_children()).get(f"{name}_layernorm")
    return x if norm is None else norm(x)
