"""The token as the LM's own operations one after the other, each on the backend that is chosen for it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deltaprune.kernels._backend import Backend
from deltaprune.kernels.layer_step import layer_step
from deltaprune.kernels.matvec import matvec
from deltaprune.kernels.quantized import Quantized
from deltaprune.kernels.token_step import LayerState
from deltaprune.kernels.token_step._weights import TokenWeights


def step(ids: Tensor, w: TokenWeights, states: Sequence[LayerState], in_place: bool) -> tuple[Tensor, list[LayerState]]:
    """See `token_step`."""
    x, new = embedded(ids, w.embedding), []
    for layer, (ssm, conv) in zip(w.layers, states, strict=True):
        x, ssm, conv = layer_step(x, layer, ssm, conv, in_place)
        new.append((ssm, conv))
    normed = F.rms_norm(x, x.shape[1:], w.norm.to(x.dtype), w.eps).to(w.embedding.dtype)
    return matvec(normed, w.embedding, x.dtype), new


def embedded(ids: Tensor, embedding: Tensor | Quantized) -> Tensor:
    """Rows of the residual stream: float32, of a float64 model float64."""
    if isinstance(embedding, Quantized):
        return embedding.rows(ids)
    return F.embedding(ids, embedding).to(torch.promote_types(embedding.dtype, torch.float32))


BACKEND = Backend(
    op="token_step",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=step,
    gradients=True,
    capturable=True,  # as far as its operations are
)
