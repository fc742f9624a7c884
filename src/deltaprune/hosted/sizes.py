"""The sizes of a decoder layer of transformers', read from its modules, which may be on the meta device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from deltaprune.errors import UserError
from deltaprune.hosted.mixing import DeltaRule, Mixing, SelectiveScan, Softmax, StateSpace
from deltaprune.inplace.probes import Probe
from deltaprune.inplace.sizes import RowMacs
from deltaprune.inplace.target import Target


@dataclass(frozen=True)
class LayerSizes:
    """One decoder layer.

    Attributes:
        updated: a row that the layer updates.
        written: one that only writes the layer's state, or its key and value.
        mixing: what n rows cost each other.
    """

    updated: RowMacs
    written: RowMacs
    mixing: Mixing


def layer_sizes(target: Target) -> tuple[LayerSizes, ...]:
    """Read all layers.

    Raises:
        UserError: a kind of mixer whose cost is not known.
    """
    parts = zip(target.rows, target.mixers, target.blocks, strict=True)
    return tuple(LayerSizes(*rows, mixing_of(mixer, probe)) for rows, mixer, probe in parts)


def _softmax(mixer: Any) -> Mixing:
    """Heads from the output's width: the query's may hold a gate as well."""
    output = next(part for name, part in mixer.named_children() if name in ("o_proj", "out_proj"))
    return Softmax(output.in_features // mixer.head_dim, mixer.head_dim, mixer.head_dim)


def _delta_rule(mixer: Any) -> Mixing:
    return DeltaRule(mixer.num_v_heads, mixer.head_k_dim, mixer.head_v_dim, mixer.num_k_heads)


def _grouped_delta_rule(mixer: Any) -> Mixing:
    """Without a rule for the state alone."""
    return DeltaRule(mixer.num_v_heads, mixer.head_k_dim, mixer.head_v_dim)


def _state_space(mixer: Any) -> Mixing:
    return StateSpace(mixer.num_heads, mixer.head_dim, mixer.ssm_state_size, mixer.chunk_size)


def _selective_scan(mixer: Any) -> Mixing:
    return SelectiveScan(mixer.intermediate_size, mixer.ssm_state_size)


def _none(mixer: Any) -> Mixing:
    return Mixing()


MIXINGS: Mapping[str, Callable[[Any], Mixing]] = {  # by the name of the mixer's probe, or of a class above it
    "Attention": _softmax,
    "GroupedGatedDelta": _grouped_delta_rule,
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
