"""One token of every sample through a whole Mamba LM, from its id to the logits: decoding."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.kernels._backend import select
from deltaprune.kernels.token_step._weights import TokenWeights

__all__ = ["LayerState", "TokenWeights", "token_step"]

LayerState = tuple[Float[Tensor, "B E N"], Float[Tensor, "B E W1"]]


def token_step(
    ids: Int[Tensor, "B"],
    weights: TokenWeights,
    states: Sequence[LayerState],
    in_place: bool = False,
    backend: str | None = None,
) -> tuple[Float[Tensor, "B V"], list[LayerState]]:
    """The logits after each sample's next token, float32, and each layer's new state.

    Args:
        ids: the tokens.
        weights: of the LM.
        states: of each layer, as `layer_step` takes them: h, float32, and the last inputs of the convolution.
        in_place: the new states may be written over `states`, which then are the ones returned.
        backend: a backend's name; None takes the best one for the device.

    Raises:
        IndexError: the embedding has no such row.
        ValueError: the shapes do not fit.
    """
    first, batch = weights.layers[0], len(ids)
    past = (batch, len(first.D), first.conv.shape[1] - 1)
    wanted = (batch, *first.A_log.shape), past
    if len(states) != len(weights.layers) or any((ssm.shape, conv.shape) != wanted for ssm, conv in states):
        raise ValueError(f"`token_step`: {len(weights.layers)} layers take states {wanted[0]} and {wanted[1]} each.")
    gradients = torch.is_grad_enabled() and (
        weights.requires_grad or any(tensor.requires_grad for state in states for tensor in state)
    )
    chosen = select(__name__, ids.device, backend, True, first.in_proj.dtype, gradients)
    return chosen.fn(ids, weights, states, in_place)
