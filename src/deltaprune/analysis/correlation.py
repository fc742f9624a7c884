"""How well implicit attention agrees with a score's choice, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from deltaprune.analysis.layers import Batch
from deltaprune.analysis.parts import Run, here
from deltaprune.analysis.scores import layer_scores
from deltaprune.analysis.stability import kept, spearman
from deltaprune.errors import UserError
from deltaprune.scores.delta import Delta
from deltaprune.scores.hidden_attention import HiddenAttention
from deltaprune.selection import floor_count
from deltaprune.steps import Score, Stage
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class Correlation:
    """Implicit attention that the last token pays (eqs. 3-5) against a score, for L layers and S samples.

    Attributes:
        spearman: rank correlation over the visual tokens, in [-1, 1]; NaN where either gives all tokens the same.
        mass: the share of the visual tokens' attention that the kept ones hold; `keep` by chance.
        auc: how often a kept token has more attention than a dropped one, ties half; 0.5 by chance.
        keep: the share kept.
    """

    spearman: Float64[np.ndarray, "L S"]
    mass: Float64[np.ndarray, "L S"]
    auc: Float64[np.ndarray, "L S"]
    keep: float


def correlation(
    vlm: VLM, inputs: Sequence[Batch], score: Score | None = None, keep: float = 0.5, run: Run = here
) -> Correlation:
    """Measure in two unpruned passes.

    Args:
        vlm: the model.
        inputs: processor outputs; every row is a sample.
        score: Delta if None.
        keep: share of the visual tokens that are kept.
        run: where each batch is measured.

    Raises:
        UserError: no samples, a sample without an image, or a keep that keeps all or nothing.
    """
    n = vlm.config.n_visual
    if not 0 < floor_count(keep, n) < n:
        raise UserError(f"keep={keep} leaves nothing to compare: give a share that keeps some of {n} tokens, not all.")
    attention = layer_scores(vlm, inputs, HiddenAttention(), run).scores
    scores = layer_scores(vlm, inputs, Delta() if score is None else score, run).scores
    stage = Stage(after=1, keep=keep, score=Delta())
    ranked = np.zeros(attention.shape[:2])
    mass, auc = np.zeros_like(ranked), np.zeros_like(ranked)
    for l, s in np.ndindex(ranked.shape):
        paid, chosen = attention[l, s].astype(np.float64), kept(scores[l, s][None], stage)[0]
        ranked[l, s] = spearman(np.stack([paid, scores[l, s]]))[0, 1]
        mass[l, s] = paid[chosen].sum() / paid.sum() if paid.sum() > 0 else np.nan
        auc[l, s] = mann_whitney(paid, chosen)
    return Correlation(ranked, mass, auc, keep)


def mann_whitney(values: Float[np.ndarray, "P"], chosen: Bool[np.ndarray, "P"]) -> float:
    """How often a chosen value exceeds another one, ties half: U / (chosen * others)."""
    difference = values[chosen][:, None] - values[~chosen]
    return float(((difference > 0) + (difference == 0) / 2).mean())
