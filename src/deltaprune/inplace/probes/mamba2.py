"""Mamba-2 (Nemotron-H): h_t = exp(A dt_t) h_{t-1} + dt_t B_t x_t^T, A one number a head."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from deltaprune.inplace.probes import Probe, Seen, Written, registry
from deltaprune.inplace.probes._convolution import causal_convolution


@registry.register("NemotronHMamba2Mixer")
class Mamba2(Probe):
    """step, delta: dt = softplus(dt + dt_bias), not below the layer's lower limit `(H,)`; its projection alone is
    computed again. key, value: B and x after the convolution; the groups of B side by side.
    """

    sees = "state"
    offers = frozenset({"step", "delta", "key", "value"})

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        told, inner, state = {}, mixer.intermediate_size, mixer.n_groups * mixer.ssm_state_size
        if needs & {"step", "delta"}:
            dt = _columns(mixer.in_proj, seen.hidden, inner + mixer.conv_dim, mixer.num_heads).float()
            told["delta"] = softplus(dt + mixer.dt_bias.float()).clamp(*mixer.time_step_limit)
            told["step"] = told["delta"].mean(-1)
        if needs & {"key", "value"}:
            mixed = _columns(mixer.in_proj, seen.hidden, inner, mixer.conv_dim)
            mixed = causal_convolution(mixer.conv1d, mixed, seen.valid, mixer.activation).float()
            told["value"], told["key"], _ = mixed.split([inner, state, state], -1)
        return told

    def written(self, mixer: Any) -> Written:
        """x, B and dt of every row; the gate, and C, which the convolution reads some rows back, of updated ones."""
        inner, state = mixer.intermediate_size, mixer.n_groups * mixer.ssm_state_size
        columns = slice(inner, 2 * inner + state), slice(inner + mixer.conv_dim, None)
        return Written({"in_proj": columns}, "out_proj", reach=mixer.conv_kernel_size - 1)


def _columns(projection: Any, x: Tensor, first: int, number: int) -> Tensor:
    """Some of the columns of a projection; all are computed where it is quantized or has an adapter."""
    part = slice(first, first + number)
    if type(projection) is not nn.Linear:
        return projection(x)[..., part]
    return linear(x, projection.weight[part], None if projection.bias is None else projection.bias[part])


@registry.register("NemotronHMoE")
@registry.register("NemotronHMLP")
class Experts(Probe):
    """A block of Nemotron-H without a mixer: rows do not see each other in it."""

    sees = "none"

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        return {}
