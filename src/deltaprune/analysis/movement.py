"""How far each layer moves the rows: what freezing a layer would leave out."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from deltaprune.analysis.layers import Batch, batches
from deltaprune.errors import UserError
from deltaprune.protocols import Block, State
from deltaprune.rows import Rows
from deltaprune.vlm import VLM
from deltaprune.walk import walk_through


@dataclass(frozen=True)
class Movement:
    """||x_{l+1} - x_l|| / ||x_l|| of each layer, x the residual stream of a row: mean over rows, then over samples.

    Attributes:
        visual: of visual rows.
        text: of text rows.
        samples: how many samples.
    """

    visual: Float64[np.ndarray, "L"]
    text: Float64[np.ndarray, "L"]
    samples: int


@torch.no_grad()
def movement(vlm: VLM, inputs: Batch | Iterable[Batch]) -> Movement:
    """Measure in one unpruned pass, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor outputs; every row is a sample with a picture.

    Raises:
        UserError: no samples.
    """
    sums, samples = np.zeros((2, vlm.config.lm.n_layers)), 0
    for batch in batches(inputs):
        rows = vlm.pack(batch, vlm.see(batch))
        sums += _moved(vlm, rows)
        samples += len(rows.lengths)
    if not samples:
        raise UserError("There is nothing to measure: give at least one sample.")
    visual, text = sums / samples
    return Movement(visual, text, samples)


def _moved(vlm: VLM, rows: Rows) -> np.ndarray:
    """(2, L) sums over samples: of visual rows, of text rows."""
    sums = np.zeros((2, vlm.config.lm.n_layers))

    def run(l: int, block: Block, rows: Rows, state: State | None) -> tuple[Rows, State]:
        before = rows.x.clone()  # the layer may reuse its memory
        rows, new, _ = block.prefill(rows, state, frozenset())
        moved = (rows.x - before).norm(dim=-1) / before.norm(dim=-1)
        for a, b in rows.spans:
            sums[:, l] += _means(moved[a:b], rows.visual[a:b])
        return rows, new

    walk_through(vlm.model.lm, rows, (), run)
    return sums


def _means(moved: Tensor, visual: Tensor) -> tuple[float, float]:
    return float(moved[visual].mean()), float(moved[~visual].mean())
