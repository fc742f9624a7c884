"""The short causal convolution in front of a recurrence, computed again: hooks on it never fire."""

from torch import Tensor, nn
from torch.nn.functional import conv1d
from transformers.activations import ACT2FN


def causal_convolution(conv: nn.Conv1d, x: Tensor, valid: Tensor | None, activation: str | None) -> Tensor:
    """`(B, W, c)` -> `(B, W, c)`; pads count as zeros, as does what came before the first row."""
    if valid is not None:
        x = x * valid[..., None]
    x = x.transpose(1, 2).to(conv.weight.dtype)
    x = conv1d(x, conv.weight, conv.bias, padding=conv.kernel_size[0] - 1, groups=conv.groups)[..., : x.shape[-1]]
    return (x if activation is None else ACT2FN[activation](x)).transpose(1, 2)
