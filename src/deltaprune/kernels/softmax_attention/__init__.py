"""Attention of a vision tower: every row of an image looks at every other."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select

__all__ = ["softmax_attention"]


def softmax_attention(
    query: Float[Tensor, "B H L k"],
    key: Float[Tensor, "B H L k"],
    value: Float[Tensor, "B H L k"],
    scale: float,
    backend: str | None = None,
) -> Float[Tensor, "B L H k"]:
    """softmax(scale query key^T) value, without a mask.

    Args:
        query, key, value: of each image and head; views of `(B, L, H, k)` are read as they lie.
        scale: of the scores, above 0.
        backend: a backend's name; None takes the best one for the device.

    Returns:
        One row of all heads after the other, contiguous, in the inputs' type; sums are float32, in float64 inputs
        float64. Weights are rounded to the inputs' type before they meet the values.
    """
    tensors = (query, key, value)
    if any(t.shape != query.shape or t.dtype != query.dtype for t in tensors):
        told = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors)
        raise ValueError(f"`softmax_attention`: shapes or types do not fit: {told}.")
    gradients = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    chosen = select(__name__, query.device, backend, dtype=query.dtype, gradients=gradients)
    return chosen.fn(query, key, value, scale)
