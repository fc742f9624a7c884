"""How a score is spread over the visual tokens of an image, layer by layer (Figure 4, eq. 7)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from deltaprune.analysis.layers import Batch, batches, traces
from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.prefill import raise_if_not_finite
from deltaprune.scores.delta import Delta
from deltaprune.scoring import importance
from deltaprune.steps import Score
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class ScoreStatistics:
    """Numbers over the visual tokens of an image, then the mean over samples; one value per layer, first to last.

    Attributes:
        mean, std, low, median, high: in the score's unit; `std` is eq. 7.
    """

    mean: Float64[np.ndarray, "L"]
    std: Float64[np.ndarray, "L"]
    low: Float64[np.ndarray, "L"]
    median: Float64[np.ndarray, "L"]
    high: Float64[np.ndarray, "L"]


@dataclass(frozen=True)
class LayerScores:
    """The score of each visual token as each layer would give it.

    Attributes:
        scores: L layers, first to last; S samples; P visual tokens, row by row. `scores[k - 1]` is what a
            `Stage(after=k)` would read if nothing was pruned before it.
    """

    scores: Float32[np.ndarray, "L S P"]

    @property
    def std(self) -> Float64[np.ndarray, "L S"]:
        """Eq. 7 of each layer and sample: sqrt(1/P sum_j (s_j - mean)^2)."""
        return self.scores.astype(np.float64).std(axis=-1)

    @property
    def statistics(self) -> ScoreStatistics:
        """The distribution at each layer, mean over samples."""
        scores = self.scores.astype(np.float64)
        parts = (scores.mean(-1), self.std, scores.min(-1), np.median(scores, -1), scores.max(-1))
        return ScoreStatistics(*(part.mean(axis=1) for part in parts))


def layer_scores(vlm: VLM, inputs: Batch | Iterable[Batch], score: Score | None = None, run: Run = here) -> LayerScores:
    """Score the visual tokens at every layer in one unpruned pass, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor outputs, each with one or more rows; every row is a sample.
        score: Delta if None.
        run: where each batch is scored.

    Raises:
        UserError: no samples, or a sample without an image.
        NonFiniteScore: the weights or activations overflowed.
    """
    chosen = Delta() if score is None else score
    parts = [part for (part,) in parts_of(vlm, partial(_of_batch, score=chosen), batches(inputs), run)]
    if not parts:
        raise UserError("There is nothing to measure: give at least one sample with an image.")
    return LayerScores(torch.cat(parts, dim=1).numpy())


def _of_batch(vlm: VLM, inputs: Batch, score: Score) -> Iterator[Float[Tensor, "L B P"]]:
    yield _scores(vlm, inputs, score)


@without_autocast
def _scores(vlm: VLM, inputs: Batch, score: Score) -> Float[Tensor, "L B P"]:
    """Of one batch, float32 on the CPU."""
    tokens, rows = vlm.pack(inputs), []
    if not all(tokens.n_visual):
        raise UserError("A sample has no image: scores are measured on visual tokens, so give each sample one.")
    visual = torch.stack([tokens.visual_rows(b) for b in range(len(tokens.lengths))])
    for k, live, trace in traces(vlm, tokens, score.needs):
        scores = importance(score, score.needs, live, trace, k)
        raise_if_not_finite([(k, repr(score), torch.isfinite(scores).all())])
        rows.append(scores[visual])
    return torch.stack(rows).cpu()
