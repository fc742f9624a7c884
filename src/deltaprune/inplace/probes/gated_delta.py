"""Gated DeltaNet (Qwen3.5, MiniCPM-V 4.6): S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from deltaprune.inplace.probes import Probe, Seen, Written, registry
from deltaprune.inplace.probes._convolution import causal_convolution


@registry.register("Qwen3_5GatedDeltaNet")
@registry.register("Qwen3_5MoeGatedDeltaNet")
class GatedDelta(Probe):
    """step, delta: beta = sigmoid(b), the write gate, one a head `(H,)`; alpha = exp(-exp(A_log) softplus(a + dt_bias))
    only forgets, and is no measure of what is written. key: k after the convolution, of unit norm in each head. value:
    v after it.
    """

    sees = "state"
    offers = frozenset({"step", "delta", "key", "value"})

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        told = {}
        if needs & {"step", "delta"}:
            told["delta"] = mixer.in_proj_b(seen.hidden).sigmoid().float()
            told["step"] = told["delta"].mean(-1)
        if needs & {"key", "value"}:
            mixed = causal_convolution(mixer.conv1d, mixer.in_proj_qkv(seen.hidden), seen.valid, mixer.activation)
            _, key, value = mixed.split([mixer.key_dim, mixer.key_dim, mixer.value_dim], -1)
            told["key"] = normalize(key.float().unflatten(-1, (-1, mixer.head_k_dim)), dim=-1).flatten(-2)
            told["value"] = value.float()
        return told

    def written(self, mixer: Any) -> Written:
        """k, v, beta and g of every row; z, and q, which the convolution reads some rows back, of updated ones."""
        columns = {"in_proj_qkv": (slice(mixer.key_dim, None),), "in_proj_z": ()}
        return Written(columns, "out_proj", reach=mixer.conv_kernel_size - 1)
