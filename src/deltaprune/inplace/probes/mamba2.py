"""Mamba-2 (Nemotron-H, Bamba, Granite 4): h_t = exp(A dt_t) h_{t-1} + dt_t B_t x_t^T, A one number a head."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from deltaprune.inplace.probes import Probe, Seen, Written, registry
from deltaprune.inplace.probes._columns import columns
from deltaprune.inplace.probes._convolution import causal_convolution


@registry.register("NemotronHMamba2Mixer")
@registry.register("BambaMixer")
@registry.register("GraniteMoeHybridMambaLayer")
class Mamba2(Probe):
    """step, delta: dt = softplus(dt + dt_bias), not below the layer's lower limit `(H,)`; its projection alone is
    computed again. key, value: B and x after the convolution; the groups of B side by side.
    """

    sees = "state"
    offers = frozenset({"step", "delta", "key", "value"})

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        told, inner, state = {}, mixer.intermediate_size, mixer.n_groups * mixer.ssm_state_size
        if needs & {"step", "delta"}:
            dt = columns(mixer.in_proj, seen.hidden, slice(inner + mixer.conv_dim, None)).float()
            told["delta"] = softplus(dt + mixer.dt_bias.float()).clamp(*mixer.time_step_limit)
            told["step"] = told["delta"].mean(-1)
        if needs & {"key", "value"}:
            mixed = columns(mixer.in_proj, seen.hidden, slice(inner, inner + mixer.conv_dim))
            mixed = causal_convolution(mixer.conv1d, mixed, seen.valid, mixer.activation).float()
            told["value"], told["key"], _ = mixed.split([inner, state, state], -1)
        return told

    def written(self, mixer: Any) -> Written:
        """x, B and dt of every row; the gate, and C, which the convolution reads some rows back, of updated ones."""
        inner, state = mixer.intermediate_size, mixer.n_groups * mixer.ssm_state_size
        needed = slice(inner, 2 * inner + state), slice(inner + mixer.conv_dim, None)
        return Written({"in_proj": needed}, "out_proj", reach=mixer.conv_kernel_size - 1)


@registry.register("NemotronHMoE")
@registry.register("NemotronHMLP")
class Experts(Probe):
    """A block of Nemotron-H without a mixer: rows do not see each other in it."""

    sees = "none"

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        return {}
