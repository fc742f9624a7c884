"""Where a prefill's time goes: each component of the LM run alone on the rows it gets, and the rest as what is left."""

from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from deltaprune.cost.floors import products
from deltaprune.cost.timing import timed
from deltaprune.kernels import causal_conv1d, reuse, selective_scan
from deltaprune.mllm.lm import MambaLM
from deltaprune.rows import cumulate
from deltaprune.vlm import VLM


def components(
    vlm: VLM, pixels: dict[str, Tensor], rows: Sequence[int], batch: int, prefill_ms: float, rounds: int = 3
) -> dict[str, float]:
    """Milliseconds by component, medians.

    Args:
        vlm: the model.
        pixels: of the images.
        rows: that enter each layer, see `floors.rows_per_layer`.
        batch: samples in them.
        prefill_ms: of the whole prefill.
        rounds: of each component.

    Returns:
        `vision` (the towers) and `projector`; then the LM's `linear` (matrix products), `conv`, `scan` and `other`
        (norms, residual adds, pruning, launches: `prefill_ms` less the three).
    """
    lm, device = vlm.model.lm, vlm.device
    with torch.no_grad():
        features = vlm.model.features(pixels)
        x = lm.layers[0].mixer.in_proj.weight.new_zeros(max(rows), 2 * lm.config.d_inner)
        parts = {
            "vision": lambda: vlm.model.features(pixels),
            "projector": lambda: vlm.model.projector(features),
            "linear": products(lm, rows),
            "conv": lambda: _convs(lm, x, rows, batch),
            "scan": lambda: _scans(lm, x, rows, batch),
        }
        times = {name: median(timed(run, device)[1] for _ in range(rounds)) for name, run in parts.items()}
    return {**times, "other": prefill_ms - times["linear"] - times["conv"] - times["scan"]}


@reuse()
def _convs(lm: MambaLM, x: Tensor, rows: Sequence[int], batch: int) -> None:
    """The convolution of every layer, on the first of the rows `x`."""
    inner = lm.config.d_inner
    for layer, total in zip(lm.layers, rows, strict=True):
        m = layer.mixer
        assert m.conv1d.bias is not None
        bounds = cumulate((total // batch,) * batch, x.device)
        causal_conv1d(x[:total, :inner], m.conv1d.weight[:, 0], m.conv1d.bias, bounds)


@reuse()
def _scans(lm: MambaLM, x: Tensor, rows: Sequence[int], batch: int) -> None:
    """The scan of every layer, on the first of the rows `x`: it takes the same time whatever it reads."""
    inner, order = lm.config.d_inner, lm.config.d_state
    for layer, total in zip(lm.layers, rows, strict=True):
        m = layer.mixer
        u, z, b = x[:total, :inner], x[:total, inner:], x[:total, :order]
        a, bias = -torch.exp(m.A_log.float()), m.dt_proj.bias.float()
        bounds = cumulate((total // batch,) * batch, x.device)
        selective_scan(u, u, a, b, b, m.D.float(), z, bias, bounds)
