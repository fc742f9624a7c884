"""What a row costs in a decoder layer: multiply-accumulates with its weights, read off the weights' shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from deltaprune.inplace.probes import Probe, Written
from deltaprune.inplace.writing import narrowable


@dataclass(frozen=True)
class RowMacs:
    """MACs of one row with a layer's weights.

    Attention's scores and the state's own update are left out: the first depends on the prompt's length, and both are
    small beside the weights at a prompt's usual length.

    Attributes:
        linear: matrix products, the router and shared experts included.
        experts: of the experts that a row is sent to.
        conv: of a short convolution along the rows.
    """

    linear: float = 0.0
    experts: float = 0.0
    conv: float = 0.0

    @property
    def total(self) -> float:
        """All together."""
        return self.linear + self.experts + self.conv


def row_macs(layer: nn.Module, mixer: nn.Module, probe: Probe, active: int) -> tuple[RowMacs, RowMacs]:
    """A row that the layer updates, and an image row that only writes.

    Args:
        layer, mixer: the layer and its mixer.
        probe: the mixer's.
        active: experts that a row goes through, where there are experts.
    """
    updated = macs_of(layer, active)
    if probe.sees == "none":
        return updated, RowMacs()
    if probe.sees == "all":
        return updated, RowMacs(sum(macs_of(mixer.get_submodule(name), active).linear for name in ("k_proj", "v_proj")))
    written, whole = probe.written(mixer), macs_of(mixer, active)
    return updated, whole if written is None else _narrowed(whole, written, mixer)


def _narrowed(whole: RowMacs, written: Written, mixer: nn.Module) -> RowMacs:
    """What is left of a mixer that goes through rows one by one."""
    linear = whole.linear - macs_of(mixer.get_submodule(written.output), 1).linear
    for name, columns in written.columns.items():
        projection: Any = mixer.get_submodule(name)
        if not columns:
            linear -= macs_of(projection, 1).linear
        elif narrowable(projection, columns):
            needed = sum(len(range(*part.indices(projection.out_features))) for part in columns)
            linear -= (projection.out_features - needed) * projection.in_features
    return replace(whole, linear=linear, conv=whole.conv * written.convolved)


def macs_of(part: nn.Module, active: int) -> RowMacs:
    """A row that goes through all of a module, and through its share of the experts."""
    linear = experts = conv = 0.0
    for each in part.modules():
        if isinstance(each, nn.Linear):
            linear += each.in_features * each.out_features  # whatever a quantized weight's own shape is
            continue
        for name, weight in each.named_parameters(recurse=False):
            if isinstance(each, nn.Conv1d):
                conv += weight.numel() if weight.ndim == 3 else 0
            elif weight.ndim == 3:  # (experts, out, in)
                experts += active * weight[0].numel()
            elif weight.ndim == 2 and name == "weight":
                linear += weight.numel()
    return RowMacs(linear, experts, conv)


def write_share(rows: Sequence[tuple[RowMacs, RowMacs]]) -> float:
    """MACs of a row that only writes over those of one that is updated, all layers together."""
    return sum(written.total for _, written in rows) / sum(updated.total for updated, _ in rows)
