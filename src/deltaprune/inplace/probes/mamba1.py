"""Mamba-1 (Jamba): h_t = exp(Delta_t A) h_{t-1} + Delta_t u_t B_t, Delta one number a channel."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from deltaprune import kernels
from deltaprune.inplace.probes import Probe, Seen, Written, registry
from deltaprune.inplace.probes._columns import columns
from deltaprune.inplace.probes._convolution import causal_convolution
from deltaprune.rows import cumulate


@registry.register("JambaMambaMixer")
class Mamba1(Probe):
    """step, delta: Delta = softplus(dt + bias) `(E,)`. value: u, x after the convolution; key, query: B and C `(N,)`.
    decay: A `(E, N)`, one for the layer. output: y `(E,)`, by a scan of its own: the layer's takes the gate, too.
    As in our own block, so that every score of Mamba-1 reads them.
    """

    sees = "state"
    offers = frozenset({"step", "delta", "key", "value", "query", "decay", "output"})
    of_layer = frozenset({"decay"})

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        x = columns(mixer.in_proj, seen.hidden, slice(mixer.intermediate_size))
        u = causal_convolution(mixer.conv1d, x, seen.valid, mixer.activation)
        told = {"value": u.float(), "decay": -mixer.A_log.float().exp()}
        if needs & {"step", "delta", "key", "query", "output"}:
            rank, states = mixer.time_step_rank, mixer.ssm_state_size
            parts = mixer.x_proj(u).split([rank, states, states], -1)
            dt, key, query = (_normed(mixer, *each).float() for each in zip(("dt", "b", "c"), parts, strict=True))
            bias = mixer.dt_proj.bias
            step = linear(dt, mixer.dt_proj.weight.float(), None if bias is None else bias.float())
            told |= {"key": key, "query": query, "delta": softplus(step)}
            told["step"] = told["delta"].mean(-1)
            if "output" in needs:
                told["output"] = scanned(mixer, told, step, seen.valid)
        return {role: told[role] for role in needs}

    def written(self, mixer: Any) -> Written:
        """x, from which u, Delta and B come, of every row; z of updated ones."""
        return Written({"in_proj": (slice(mixer.intermediate_size),)}, "out_proj")


def scanned(
    mixer: Any, told: Mapping[str, Tensor], step: Float[Tensor, "B W E"], valid: Bool[Tensor, "B W"] | None
) -> Float[Tensor, "B W E"]:
    """y = C h + D u of every row, h = 0 before the first.

    Args:
        mixer: whose D it is.
        told: value, key, query and decay, as in `Mamba1`.
        step: Delta before its softplus.
        valid: which rows are no pads; these leave h as it is.
    """
    u = told["value"] if valid is None else told["value"] * valid[..., None]
    batch, width = step.shape[:2]
    rows = (x.flatten(0, 1) for x in (u, step, told["key"], told["query"]))
    u, step, key, query = (x.contiguous() for x in rows)
    bounds = cumulate((width,) * batch, step.device)
    a, skip, bias = told["decay"], mixer.D.float(), torch.zeros_like(mixer.D, dtype=torch.float32)
    scan = kernels.selective_scan(u, step, a, key, query, skip, u, bias, bounds, extras=frozenset({"y"}))  # gate unread
    assert scan.y is not None
    return scan.y.unflatten(0, (batch, width))


def _normed(mixer: Any, name: str, x: Tensor) -> Tensor:
    norm: nn.Module | None = dict(mixer.named_children()).get(f"{name}_layernorm")
    return x if norm is None else norm(x)
