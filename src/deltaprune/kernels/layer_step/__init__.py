"""One token of every sample through a whole Mamba layer: the step of decoding."""

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.kernels._backend import select
from deltaprune.kernels.layer_step._weights import LayerWeights

__all__ = ["LayerWeights", "layer_step"]


def layer_step(
    x: Float[Tensor, "B d"],
    weights: LayerWeights,
    ssm: Float[Tensor, "B E N"],
    conv: Float[Tensor, "B E W1"],
    in_place: bool = False,
    backend: str | None = None,
) -> tuple[Float[Tensor, "B d"], Float[Tensor, "B E N"], Float[Tensor, "B E W1"]]:
    """x + out_proj(scan(conv(in_proj(rms_norm(x))))), one row per sample, as a layer's prefill of B one-row sequences.

    Every product is rounded to the weights' type, everything between them is float32, as in the prefill.

    Args:
        x: the residual stream, float32.
        weights: of the layer.
        ssm: its state h, float32.
        conv: the last W - 1 inputs of its convolution, oldest first.
        in_place: the new states may be written over `ssm` and `conv`, which then are the ones returned.
        backend: a backend's name; None takes the best one for the device.

    Returns:
        The residual stream after the layer, and both new states.
    """
    (batch, width), (channels, order) = x.shape, weights.A_log.shape
    past = (batch, channels, weights.conv.shape[1] - 1)
    if ssm.shape != (batch, channels, order) or conv.shape != past or weights.in_proj.shape != (2 * channels, width):
        given = {"x": x, "ssm": ssm, "conv": conv, "in_proj": weights.in_proj}
        told = ", ".join(f"{name} {tuple(t.shape)}" for name, t in given.items())
        raise ValueError(f"`layer_step`: shapes do not fit {channels} channels of {order} states: {told}.")
    gradients = torch.is_grad_enabled() and any(t.requires_grad for t in (x, ssm, conv, *weights.tensors()))
    chosen = select(__name__, x.device, backend, True, weights.in_proj.dtype, gradients)
    return chosen.fn(x, weights, ssm, conv, in_place)
