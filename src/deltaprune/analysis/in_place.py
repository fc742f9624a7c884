"""A score in every layer of a transformers model, without pruning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.inplace.target import Target
from deltaprune.readers import HIDDEN
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.steps import Method, Score, Shape, Stage
from deltaprune.trace import Trace


def scores_in_place(vlm: Hosted, inputs: Mapping[str, Any], score: Score | None = None) -> Float32[np.ndarray, "L P"]:
    """`[k - 1]`: what a stage after layer k would read of each visual token, in the order of the prompt.

    NaN where no stage can read it: no layer up to k provides it, or k is the last layer.

    Args:
        vlm: the model.
        inputs: the processor's output for one prompt with a picture.
        score: Delta if None.

    Raises:
        UserError: several prompts, or one without a picture.
        NonFiniteScore: the weights or activations overflowed.
    """
    chosen, visual = Delta() if score is None else score, vlm.is_visual(inputs["input_ids"])
    if len(visual) != 1 or not bool(visual.any()):
        raise UserError("Scores are measured on the visual tokens of one prompt: give one that has a picture.")
    blocks, needs = Target(vlm.model).blocks, chosen.needs - HIDDEN
    n_layers = len(blocks)
    first = next((l + 1 for l, block in enumerate(blocks) if needs <= block.offers), n_layers)
    book: list[Tensor] = []
    if first < n_layers:
        vlm.start(inputs, method=Watching(Noting(chosen, book), first))
    found = np.full((n_layers, int(visual.sum())), np.nan, dtype=np.float32)
    for k, scores in enumerate(book, start=first):
        found[k - 1] = scores.cpu().numpy()
    return found


@dataclass(frozen=True, repr=False)
class Noting(Score):
    """Another score; what it gives the visual tokens is put on a list."""

    score: Score
    book: list[Tensor] = field(compare=False)

    needs = frozenset()
    sees_text = False

    def __post_init__(self) -> None:
        for name in ("needs", "also", "sees_text"):
            object.__setattr__(self, name, getattr(self.score, name))

    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        scores = self.score(rows, trace)
        self.book.append(scores[rows.visual])
        return scores

    def __repr__(self) -> str:
        return repr(self.score)


@dataclass(frozen=True)
class Watching(Method):
    """A stage after each layer from the `first` on, which keeps everything."""

    score: Score
    first: int

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return tuple(Stage(k, 0.5, self.score, count=everything) for k in range(self.first, shape.n_layers))


def everything(keep: float, n_image: int) -> int:
    """A count rule: whatever share is asked for, all."""
    return n_image
