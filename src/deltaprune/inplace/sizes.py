"""What a row costs in a decoder layer: multiply-accumulates with its weights, read off the weights' shapes."""

from typing import Any

from torch import nn

from deltaprune.inplace.probes import Probe
from deltaprune.inplace.writing import narrowable


def row_macs(layer: nn.Module, mixer: nn.Module, probe: Probe, active: int) -> tuple[float, float]:
    """MACs of a row that the layer updates, and of an image row that only writes.

    Attention's scores and the state's own update are left out: the first depends on the prompt's length, and both are
    small beside the weights at a prompt's usual length.

    Args:
        layer, mixer: the layer and its mixer.
        probe: the mixer's.
        active: experts that a row goes through, where there are experts.
    """
    updated = macs_of(layer, active)
    if probe.sees == "none":
        return updated, 0.0
    if probe.sees == "all":
        return updated, sum(macs_of(mixer.get_submodule(name), active) for name in ("k_proj", "v_proj"))
    written, whole = probe.written(mixer), macs_of(mixer, active)
    if written is None:
        return updated, whole
    whole -= macs_of(mixer.get_submodule(written.output), active)
    for name, columns in written.columns.items():
        projection: Any = mixer.get_submodule(name)
        if not columns:
            whole -= macs_of(projection, active)
        elif narrowable(projection, columns):
            needed = sum(len(range(*part.indices(projection.out_features))) for part in columns)
            whole -= (projection.out_features - needed) * projection.in_features
    return updated, whole


def macs_of(part: nn.Module, active: int) -> float:
    """MACs of a row with all weights of a module: matrices, convolutions along the rows, and its share of experts."""
    total = 0.0
    for each in part.modules():
        if isinstance(each, nn.Linear):
            total += each.in_features * each.out_features  # whatever a quantized weight's own shape is
            continue
        for weight in each.parameters(recurse=False):
            if weight.ndim == 3 and not isinstance(each, nn.Conv1d):  # (experts, out, in)
                total += active * weight[0].numel()
            elif weight.ndim > 1:
                total += weight.numel()
    return total
