"""Packed rows through a whole Mamba layer, of which nothing but the result is asked for: a short prefill."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.kernels._backend import forced, select
from deltaprune.kernels._packed import check_boundaries
from deltaprune.kernels.layer_step._weights import LayerWeights
from deltaprune.kernels.quantized import Quantized

__all__ = ["MOST_ROWS", "layer_rows", "layer_rows_fused"]

MOST_ROWS = 64  # of a short prefill; with more, the time between the operations does not count


def layer_rows(
    x: Float[Tensor, "T d"],
    weights: LayerWeights,
    cu_seqlens: Int[Tensor, "B1"],
    ssm: Float[Tensor, "B E N"] | None = None,
    conv: Float[Tensor, "B E W1"] | None = None,
    backend: str | None = None,
) -> tuple[Float[Tensor, "T d"], Float[Tensor, "B E N"], Float[Tensor, "B E W1"]]:
    """x + out_proj(scan(conv(in_proj(rms_norm(x))))) of packed sequences.

    Every product is rounded to the weights' type, everything between them is float32.

    Args:
        x: the residual stream, float32.
        weights: of the layer.
        cu_seqlens: where each sequence begins, and T.
        ssm: the state h before each, float32; zeros if None.
        conv: the last W - 1 inputs of its convolution before each, oldest first; zeros if None.
        backend: a backend's name; None takes the best one for the device.

    Returns:
        The residual stream after the layer, and both new states.

    Raises:
        ValueError: the shapes do not fit, or `cu_seqlens` does not end at T.
    """
    (length, width), (channels, order), samples = x.shape, weights.A_log.shape, len(cu_seqlens) - 1
    if weights.in_proj.shape != (2 * channels, width):
        told = f"x {tuple(x.shape)}, in_proj {tuple(weights.in_proj.shape)}"
        raise ValueError(f"`layer_rows`: shapes do not fit {channels} channels: {told}.")
    check_boundaries(cu_seqlens, length)
    wanted = (samples, channels, order), (samples, channels, weights.conv.shape[1] - 1)
    if any(state is not None and state.shape != shape for state, shape in zip((ssm, conv), wanted, strict=True)):
        raise ValueError(f"`layer_rows`: {samples} sequences take states {wanted[0]} and {wanted[1]}.")
    gradients = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, ssm, conv, *weights.tensors())
    )
    chosen = select(__name__, x.device, backend, True, weights.in_proj.dtype, gradients)
    return chosen.fn(x, weights, cu_seqlens, ssm, conv)


def layer_rows_fused(x: Float[Tensor, "T d"], weight: Float[Tensor, "M d"] | Quantized) -> bool:
    """Whether one launch replaces a layer's operations on these rows; a backend that is forced for one of them runs it.

    Args:
        x: the residual stream.
        weight: that of in_proj.
    """
    if x.device.type != "cpu" or not 0 < len(x) <= MOST_ROWS:
        return False
    if torch.is_grad_enabled() and weight.requires_grad:
        return False
    if any(op != "layer_rows" for op, _ in forced()):
        return False
    return select(__name__, x.device, carries_state=True, dtype=weight.dtype).name != "reference"
