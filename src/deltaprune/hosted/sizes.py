"""The sizes of a decoder layer of transformers', read from its modules, which may be on the meta device."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from deltaprune.errors import UserError
from deltaprune.hosted.mixing import DeltaRule, Mixing, Softmax, StateSpace

ONLY_WRITES = ("k_proj", "v_proj")  # of an attention, what a row needs that is attended to and not updated
NOT_WRITING = ("out_proj",)  # of a recurrence, what such a row does without


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


def layer_sizes(layer: nn.Module, mixer: nn.Module, active: int) -> LayerSizes:
    """Read one layer.

    Args:
        layer: the decoder layer.
        mixer: the part of it that a probe knows.
        active: how many experts a row is sent to; 0 where there are none.
    """
    linear, experts, conv = _products(layer, active)
    mixing = mixing_of(mixer)
    names = {name: sum(_products(part, active)) for name, part in mixer.named_children()}
    if type(mixing) is Softmax:
        writes, convolved = sum(names[name] for name in ONLY_WRITES), 0.0
    elif type(mixing) is Mixing and not _products(mixer, active)[2]:
        writes, convolved = 0.0, 0.0  # an MLP: there is nothing to write
    else:
        whole, _, convolved = _products(mixer, active)
        writes = whole - sum(names.get(name, 0.0) for name in NOT_WRITING)
    return LayerSizes(linear, experts, conv, mixing, writes, convolved)


def _products(part: nn.Module, active: int) -> tuple[float, float, float]:
    """MACs of one row: matrix products, experts, convolution.

    A weight of two axes multiplies each row once; one of three axes is a convolution's, one channel each, or holds all
    experts.
    """
    linear = experts = conv = 0.0
    for module in part.modules():
        for weight in module.parameters(recurse=False):
            if isinstance(module, nn.Conv1d):
                conv += weight.numel() if weight.ndim == 3 else 0
            elif weight.ndim == 2:
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


def _none(mixer: Any) -> Mixing:
    return Mixing()


MIXINGS: Mapping[str, Callable[[Any], Mixing]] = {  # by the class of the mixer, as its probe is
    **dict.fromkeys(
        (
            "Qwen2Attention",
            "Qwen2_5_VLAttention",
            "Qwen3VLTextAttention",
            "LlamaAttention",
            "Lfm2Attention",
            "NemotronHAttention",
            "Qwen3_5Attention",
            "Qwen3_5MoeAttention",
        ),
        _softmax,
    ),
    "Qwen3_5GatedDeltaNet": _delta_rule,
    "Qwen3_5MoeGatedDeltaNet": _delta_rule,
    "NemotronHMamba2Mixer": _state_space,
    **dict.fromkeys(("Lfm2ShortConv", "NemotronHMoE", "NemotronHMLP"), _none),
}


def mixing_of(mixer: nn.Module) -> Mixing:
    """What a mixer's rows cost each other, else a `UserError`."""
    kind = type(mixer).__name__
    if kind not in MIXINGS:
        raise UserError(f"The cost of a {kind} is not known: there is a closed form for {', '.join(sorted(MIXINGS))}.")
    return MIXINGS[kind](mixer)
