"""One unpruned pass over some samples, and what calibration needs of it: every curve is read from this one pass."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.analysis.layers import traces
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.methods.none import NoPruning
from deltaprune.prefill import raise_if_not_finite
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class FullPass:
    """What is kept of an unpruned pass; L layers.

    Attributes:
        tokens: all rows, after the last layer.
        scores: the importance of every row (eq. 6), layer by layer.
        text: the text rows that enter each layer, the samples one after the other.
    """

    tokens: Rows
    scores: tuple[Float[Tensor, "T"], ...]
    text: tuple[Float[Tensor, "_ d"], ...]


@torch.no_grad()
@without_autocast
def full_pass(vlm: VLM, inputs: Mapping[str, Tensor]) -> FullPass:
    """Run one batch through every layer, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor output with one or more rows; every row is a sample.

    Raises:
        UserError: a sample without an image.
        NonFiniteScore: the weights or activations overflowed.
    """
    with vlm.pruned_by(NoPruning()):
        packed, score, scores = vlm.pack(inputs), Delta(), []
    if not all(packed.n_visual):
        raise UserError("A sample has no image: calibration is about visual tokens, so give each sample one.")
    words = torch.nonzero(~packed.visual)[:, 0]
    tokens, text = packed, [packed.x[words]]
    for k, tokens, trace in traces(vlm, packed, score.needs):
        scores.append(score(tokens, trace))
        raise_if_not_finite([(k, repr(score), torch.isfinite(scores[-1]).all())])
        text.append(tokens.x[words])
    return FullPass(tokens, tuple(scores), tuple(text[:-1]))
