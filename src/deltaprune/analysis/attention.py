"""Implicit attention: the matrix by which a layer's scan turns its inputs into its outputs (eqs. 3-5).

    K[i, j] = C_i . (prod_{t=j+1..i} A-bar_t) . B-bar_j,      A-bar_t = exp(Delta_t A),   B-bar_j = Delta_j B_j
            = sum_n C[i, n] exp(A[:, n] (S_i - S_j)) B[j, n] Delta_j,     S_i = sum_{t<=i} Delta_t,     j <= i

A is diagonal, so the products become a closed form, channel by channel; it is negative and S ascends, so no exponent is
positive, and nothing is divided. B-bar is the Euler form that the models run, see NOTATION.md. The convolution before
the scan, the skip D u and the gate are not part of K.

The paper prints one matrix and does not say what becomes of the channels. Ali et al. (2024, arXiv 2403.01590), from
whom it takes K, show |K| of single channels. Here it is the mean of |K| over all channels, the same reduction as in the
score `HiddenAttention`: with the sign left in, channels would cancel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.analysis.layers import Batch, traces
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.vlm import VLM

BLOCK = 2**22  # numbers in one block of rows, all channels: 16 MB in float32
NEEDS = frozenset({"delta", "decay", "key", "query"})


@dataclass(frozen=True)
class Attention:
    """Implicit attention of one layer over one prompt, image first.

    Attributes:
        after: how many layers have run; the matrix is that of the last of them.
        n_visual: the first so many tokens are the image's.
        matrix: mean over channels of |K|: row i is what output i takes from each input j; 0 above the diagonal.
    """

    after: int
    n_visual: int
    matrix: Float[np.ndarray, "L L"]

    @property
    def received(self) -> Float[np.ndarray, "L"]:
        """What the last token, which answers, takes from each token: the score `HiddenAttention`."""
        return self.matrix[-1]


@without_autocast
def attention(vlm: VLM, inputs: Batch, after: Sequence[int]) -> tuple[Attention, ...]:
    """Implicit attention of some layers in one unpruned pass (Figures 5 and 8).

    O(L^2 E N) exponentials a layer, O(L^2) memory beside one block of rows.

    Args:
        vlm: the model.
        inputs: the processor's output for one question.
        after: which layers, each given as the number of layers that have run (1 is the first), in any order.

    Returns:
        One `Attention` for each of `after`, ascending.

    Raises:
        UserError: several questions, or a layer beyond the model.
    """
    tokens = vlm.pack(inputs)
    if len(tokens.lengths) != 1:
        raise UserError(f"attention was given {len(tokens.lengths)} questions: it takes the inputs of one at a time.")
    found = []
    for k, _, trace in traces(vlm, tokens, NEEDS, after):
        matrix = implicit_attention(trace["delta"], trace["decay"], trace["key"].float(), trace["query"].float())
        found.append(Attention(k, tokens.n_visual[0], matrix.cpu().numpy()))
    return tuple(found)


@torch.no_grad()
def implicit_attention(
    delta: Float[Tensor, "L E"], A: Float[Tensor, "E N"], B: Float[Tensor, "L N"], C: Float[Tensor, "L N"]
) -> Float[Tensor, "L L"]:
    """Mean over channels of |K| of one sequence, float32.

    A cut through the channels, `delta[:, ::20], A[::20]`, gives an estimate at a twentieth of the work.
    """
    matrix = delta.new_zeros(len(delta), len(delta))
    for start, block in channel_blocks(delta, A, B, C):
        rows, columns, _ = block.shape
        matrix[start : start + rows, :columns] = block.abs_().mean(-1)
    return matrix


def channel_blocks(
    delta: Float[Tensor, "L E"],
    A: Float[Tensor, "E N"],
    B: Float[Tensor, "L N"],
    C: Float[Tensor, "L N"],
    most: int = BLOCK,
) -> Iterator[tuple[int, Float[Tensor, "R J E"]]]:
    """K of every channel, a block of rows at a time: of `most` numbers, or a single row.

    Yields:
        The block's first row and `K[start : start + R, :J]`, channels last; J = start + R, beyond it K is 0.
    """
    length, channels = delta.shape
    elapsed = delta.double().cumsum(0)  # S; in float32 the difference of two long sums would lose digits
    size = max(1, most // max(1, length * channels))
    for start in range(0, length, size):
        stop = min(start + size, length)
        span = (elapsed[start:stop, None] - elapsed[None, :stop]).clamp_(min=0).float()
        block = torch.zeros_like(span)
        for n in range(A.shape[1]):
            block.addcmul_(torch.outer(C[start:stop, n], B[:stop, n])[..., None], (span * A[:, n]).exp_())
        block *= delta[:stop]
        row = torch.arange(start, stop, device=delta.device)
        past = row[:, None] >= torch.arange(stop, device=delta.device)
        yield start, block.masked_fill_(~past[..., None], 0)
