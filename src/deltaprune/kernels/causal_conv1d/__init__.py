"""The short causal convolution of Mamba over packed sequences."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from deltaprune.kernels._backend import select
from deltaprune.kernels._packed import check_boundaries

__all__ = ["causal_conv1d"]


def causal_conv1d(
    x: Float[Tensor, "T E"],
    weight: Float[Tensor, "E W"],
    bias: Float[Tensor, "E"],
    cu_seqlens: Int32[Tensor, "S_plus_1"],
    initial_state: Float[Tensor, "S E W-1"] | None = None,
    backend: str | None = None,
) -> tuple[Float[Tensor, "T E"], Float[Tensor, "S E W-1"]]:
    """Depthwise causal convolution and SiLU, channel by channel:

        out_t = silu(bias + Σ_k weight_k x_{t - W + 1 + k}),  k = 0 .. W - 1

    as causal_conv1d's `causal_conv1d_fn(activation="silu")`. Sums in float32 (float64 inputs: in float64).

    Args:
        x: T packed rows of E channels. Rows may be cut from wider ones.
        weight: W taps per channel, the newest row's last.
        bias: per channel.
        cu_seqlens: where the S sequences begin and end, `[0, ..., T]`; a sequence may be empty.
        initial_state: the W - 1 rows before each sequence's first, oldest first; zeros if None.
        backend: a backend's name; None takes the best one for the device.

    Returns:
        The output and the last W - 1 inputs of each sequence (with the initial state's where it is shorter), both in
        the type of `x`.
    """
    (length, channels), (_, width), sequences = x.shape, weight.shape, len(cu_seqlens) - 1
    shape = (sequences, channels, width - 1)
    if weight.shape[0] != channels or bias.shape != (channels,):
        raise ValueError(f"`causal_conv1d`: weight {tuple(weight.shape)} or bias do not fit {channels} channels.")
    if initial_state is not None and initial_state.shape != shape:
        raise ValueError(f"`causal_conv1d`: initial_state is {tuple(initial_state.shape)} and must be {shape}.")
    check_boundaries(cu_seqlens, length)
    if length == 0:
        old = x.new_zeros(shape) if initial_state is None else initial_state.to(x.dtype, copy=True)
        return torch.empty_like(x), old
    tensors = (x, weight, bias, initial_state)
    gradients = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in tensors)
    chosen = select(__name__, x.device, backend, initial_state is not None, x.dtype, gradients)
    return chosen.fn(x, weight, bias, cu_seqlens, initial_state)
