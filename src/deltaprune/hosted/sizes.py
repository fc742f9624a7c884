"""The sizes of a decoder layer of transformers', read from its modules, which may be on the meta device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from deltaprune.errors import UserError
from deltaprune.hosted.mixing import DeltaRule, Mixing, SelectiveScan, Softmax, StateSpace
from deltaprune.inplace.probes import Probe
from deltaprune.inplace.sizes import row_macs


@dataclass(frozen=True)
class LayerSizes:
    """One decoder layer; MACs of one row, but for `mixing`.

    Attributes:
        linear: matrix products, the router and shared experts included.
        experts: of the experts that a row is sent to.
        conv: of a short convolution.
        mixing: what n rows cost each other.
        write_linear, write_conv: the part of `linear` and `conv` of a row that only writes the layer's state, or its
            key and value.
    """

    linear: float
    experts: float
    conv: float
    mixing: Mixing
    write_linear: float
    write_conv: float


def layer_sizes(layer: nn.Module, mixer: nn.Module, probe: Probe, active: int) -> LayerSizes:
    """Read one layer.

    Args:
        layer: the decoder layer.
        mixer: the part of it that a probe knows.
        probe: the mixer's.
        active: how many experts a row is sent to; 0 where there are none.

    Raises:
        UserError: a kind of mixer whose cost is not known.
    """
    linear, experts, conv = _products(layer, active)
    _, written = row_macs(layer, mixer, probe, active)
    convolved = _products(mixer, active)[2] if probe.sees == "state" else 0.0
    return LayerSizes(linear, experts, conv, mixing_of(mixer, probe), written - convolved, convolved)


def _products(part: nn.Module, active: int) -> tuple[float, float, float]:
    """MACs of one row: matrix products, experts, convolution.

    A `weight` of two axes multiplies each row once; a parameter of three axes is a convolution's, one channel each, or
    holds all experts.
    """
    linear = experts = conv = 0.0
    for module in part.modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(module, nn.Conv1d):
                conv += weight.numel() if weight.ndim == 3 else 0
            elif weight.ndim == 2 and name == "weight":
                linear += weight.numel()
            elif weight.ndim == 3:
                experts += weight.numel() * active / weight.shape[0]
    return linear, experts, conv


def _softmax(mixer: Any) -> Mixing:
    """Heads from the output's width: the query's may hold a gate as well."""
    output = next(part for name, part in mixer.named_children() if name in ("o_proj", "out_proj"))
    return Softmax(output.in_features // mixer.head_dim, mixer.head_dim, mixer.head_dim)


def _delta_rule(mixer: Any) -> Mixing:
    return DeltaRule(mixer.num_v_heads, mixer.head_k_dim, mixer.head_v_dim)


def _state_space(mixer: Any) -> Mixing:
    return StateSpace(mixer.num_heads, mixer.head_dim, mixer.ssm_state_size, mixer.chunk_size)


def _selective_scan(mixer: Any) -> Mixing:
    return SelectiveScan(mixer.intermediate_size, mixer.ssm_state_size)


def _none(mixer: Any) -> Mixing:
    return Mixing()


MIXINGS: Mapping[str, Callable[[Any], Mixing]] = {  # by the name of the mixer's probe, or of a class above it
    "Attention": _softmax,
    "GatedDelta": _delta_rule,
    "Mamba1": _selective_scan,
    "Mamba2": _state_space,
    "ShortConvolution": _none,
    "Experts": _none,
}


def mixing_of(mixer: nn.Module, probe: Probe) -> Mixing:
    """What a mixer's rows cost each other, else a `UserError`."""
    known = next((kind.__name__ for kind in type(probe).__mro__ if kind.__name__ in MIXINGS), None)
    if known is None:
        raise UserError(f"The cost of a {type(mixer).__name__} is not known: add its form to hosted/sizes.py.")
    return MIXINGS[known](mixer)
