"""The short convolution of LFM2: y_t = C_t * sum_i w_i (B x)_{t-i}, three rows wide, without a step size or a decay."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deltaprune.inplace.probes import Probe, Seen, Written, registry


@registry.register("Lfm2ShortConv")
class ShortConvolution(Probe):
    """key, value: B and x, whose product is what a row writes. There is no `step`: no gate says how much is written."""

    sees = "state"
    offers = frozenset({"key", "value"})

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        key, _, value = mixer.in_proj(seen.hidden).float().chunk(3, -1)
        return {"key": key, "value": value}

    def written(self, mixer: Any) -> Written:
        """The rows that the convolution reaches back to; no later row reads the others."""
        return Written({"in_proj": ()}, "out_proj", reach=mixer.conv_kernel_size - 1)
