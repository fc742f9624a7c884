"""The short causal convolution in front of a recurrence, computed again: hooks on it never fire."""

import torch
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


def continued_convolution(
    conv: nn.Conv1d, x: Tensor, before: Tensor | None, channels: slice, activation: str
) -> Tensor:
    """Some channels of the convolution, behind the rows that a cache holds: `(B, c, n)` -> `(B, n, c)`.

    Args:
        conv: of all channels.
        x: the rows, without pads, these channels alone.
        before: the cache's last rows, `(B, all channels, kernel)`; None where there are none.
        channels: which.
        activation: by name.
    """
    reach = conv.kernel_size[0] - 1
    earlier = x.new_zeros(*x.shape[:2], reach)
    if before is not None:
        earlier = before[:, channels, before.shape[-1] - reach :]
    x = torch.cat([earlier, x], -1)
    weight, bias = conv.weight[channels], None if conv.bias is None else conv.bias[channels]
    return ACT2FN[activation](conv1d(x, weight, bias, groups=len(weight))).transpose(1, 2)
