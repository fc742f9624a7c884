"""Other engines on the same weights, one file each; a new file here is a new peer of `bench`.

A peer shares our tensors, without copies: two float32 LMs of 2.8B parameters do not fit into most machines. Only the
small vectors that we keep in float32 are cast for a peer that needs one type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deltaprune.mllm.lm import MambaLM
from deltaprune.registry import Registry

# Relative distance of the logits: 1.4 for unrelated ones. In bfloat16, where the two round in different places,
# 0.02 to 0.06 was seen over 16 to 64 layers of widths from 256 to 2560.
AGREE = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.025}  # float16 rounds eight times as finely


class PeerDisagrees(ArithmeticError):
    """A peer computes something else, so that the two times would not be comparable."""


@dataclass(frozen=True)
class Peer:
    """Another engine with our weights.

    Attributes:
        name: what runs, from observing which kernels it called.
        dtype: of its weights.
        prefill: rows `(B, L, d)` of the residual stream -> the last position's hidden rows and the engine's state.
        decode: token ids `(B,)` and that state -> logits `(B, V)`; the state is advanced in place.
        logits: hidden rows `(B, d)` -> logits `(B, V)`, float32.
    """

    name: str
    dtype: torch.dtype
    prefill: Callable[[Tensor], tuple[Tensor, Any]]
    decode: Callable[[Tensor, Any], Tensor]
    logits: Callable[[Tensor], Tensor]


Engine = Callable[[MambaLM], list[Peer]]
"""The peers that an engine offers for an LM; none where it is not installed or cannot run on the LM's device."""

registry: Registry[Engine] = Registry("peer", "deltaprune.cost.peers")


def peers(lm: MambaLM) -> list[Peer]:
    """The peers that are installed and can run where the LM is, engine by engine in alphabetical order."""
    return [peer for name in registry.names() for peer in registry[name](lm)]


def check_peer(peer: Peer, x: Tensor, logits: Tensor) -> float:
    """Relative distance of a peer's logits after the rows `x (B, L, d)` from ours.

    Raises:
        PeerDisagrees: it is larger than rounding explains.
    """
    theirs = peer.logits(peer.prefill(x)[0])[..., : logits.shape[-1]]
    distance = ((theirs - logits).norm() / logits.norm()).item()
    if not distance <= AGREE[peer.dtype]:
        raise PeerDisagrees(
            f"{peer.name} and this library disagree on the same weights: their logits lie {distance:.1e} apart, "
            f"relatively, and {AGREE[peer.dtype]:.0e} is allowed. No time was taken."
        )
    return distance
