"""Where a prefill's time goes: each component of the LM is timed alone on its rows; the remaining time is "other"."""

from collections.abc import Sequence
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from deltaprune.cost.floors import LayerRows, products
from deltaprune.cost.timing import timed
from deltaprune.kernels import reuse
from deltaprune.mllm.lm import MambaLM
from deltaprune.rows import cumulate
from deltaprune.vlm import VLM


def components(
    vlm: VLM, pixels: dict[str, Tensor], rows: Sequence[LayerRows], batch: int, prefill_ms: float, rounds: int = 3
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
        x = torch.zeros(max(map(sum, rows)), 2 * lm.config.d_inner, device=lm.device, dtype=lm.dtype)
        parts = {
            "vision": lambda: vlm.model.features(pixels),
            "projector": lambda: vlm.model.projector(features),
            "linear": products(lm, rows),
            "conv": lambda: _alone("conv", lm, x, rows, batch),
            "scan": lambda: _alone("scan", lm, x, rows, batch),
        }
        times = {name: median(timed(run, device)[1] for _ in range(rounds)) for name, run in parts.items()}
    return {**times, "other": prefill_ms - times["linear"] - times["conv"] - times["scan"]}


@reuse()
def _alone(part: Literal["conv", "scan"], lm: MambaLM, x: Tensor, rows: Sequence[LayerRows], batch: int) -> None:
    """One component of every layer, on the first of the rows `x`; written rows count as if they were updated."""
    for block, total in zip(lm.blocks, map(sum, rows), strict=True):
        block.alone(part, x[:total], cumulate((total // batch,) * batch, x.device))
