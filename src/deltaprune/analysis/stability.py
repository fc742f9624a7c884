"""Whether layers agree on which tokens matter: rank correlation and the overlap of what they would keep."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64

from deltaprune.analysis.layers import Batch
from deltaprune.analysis.scores import layer_scores
from deltaprune.checks import check_keep
from deltaprune.errors import UserError
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.selection import floor_count, select
from deltaprune.steps import Score, Stage
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class Stability:
    """Agreement of a score between layers, mean over samples.

    Attributes:
        spearman: rank correlation of the visual tokens' scores at two layers, in [-1, 1]; NaN beside a layer that
            scores all tokens of a sample alike.
        overlap: the share of the tokens kept at one layer that the other would keep, too, in [0, 1]; sets drawn at
            random share `keep` of their tokens.
        keep: the share of tokens kept.
        samples: over how many samples.
    """

    spearman: Float64[np.ndarray, "L L"]
    overlap: Float64[np.ndarray, "L L"]
    keep: float
    samples: int


def stability(vlm: VLM, inputs: Batch | Iterable[Batch], score: Score | None = None, keep: float = 0.5) -> Stability:
    """Measure in one unpruned pass how far the choice of tokens depends on the layer.

    Args:
        vlm: the model.
        inputs: processor outputs; every row is a sample.
        score: Delta if None.
        keep: share of the visual tokens in the sets that are compared; at least one token.

    Raises:
        UserError: no samples, a sample without an image, or a `keep` that keeps nothing or is no share.
    """
    check_keep(keep)
    if floor_count(keep, vlm.config.n_visual) == 0:
        raise UserError(
            f"keep={keep} keeps none of {vlm.config.n_visual} tokens: give a share of at least one of them."
        )
    scores = layer_scores(vlm, inputs, score).scores
    samples, stage = scores.shape[1], Stage(after=1, keep=keep, score=Delta())
    ranked = [spearman(scores[:, s]) for s in range(samples)]
    shared = [overlap(kept(scores[:, s], stage)) for s in range(samples)]
    return Stability(np.mean(ranked, axis=0), np.mean(shared, axis=0), keep, samples)


def spearman(scores: Float[np.ndarray, "L P"]) -> Float64[np.ndarray, "L L"]:
    """Spearman's rank correlation between rows; equal scores share the mean of their ranks."""
    ranks = np.stack([_ranks(row) for row in scores])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(ranks, axis=1)
    with np.errstate(invalid="ignore"):  # a row of equal scores has no order: 0 / 0
        return (ranks @ ranks.T) / np.outer(norm, norm)


def kept(scores: Float[np.ndarray, "L P"], stage: Stage) -> Bool[np.ndarray, "L P"]:
    """Which visual tokens a stage would keep of each row of scores, by its own count and the rules of `select`."""
    rows, n = scores.shape
    image = [torch.zeros(n, 1)] * rows
    tokens = Rows.pack(image, [torch.zeros(0, 1)] * rows)
    chosen = select(replace(stage, candidates="visual"), torch.from_numpy(scores).flatten(), tokens)
    mask = np.zeros(rows * n, dtype=bool)
    mask[chosen.rows.numpy()] = True
    return mask.reshape(rows, n)


def overlap(sets: Bool[np.ndarray, "L P"]) -> Float64[np.ndarray, "L L"]:
    """|a and b| / |a| for sets of one size, given as masks."""
    counts = sets.astype(np.float64)
    return (counts @ counts.T) / counts.sum(axis=1, keepdims=True)


def _ranks(values: Float[np.ndarray, "P"]) -> Float64[np.ndarray, "P"]:
    """1 for the lowest; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
