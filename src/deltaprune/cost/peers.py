"""Other engines on the same weights: transformers' Mamba, plain or with mambapy's parallel scan; mamba_ssm on a GPU.

A peer holds our tensors, not copies: two float32 LMs of 2.8B parameters are more than most machines have. Only the
small vectors that we keep in float32 are cast for it, as it asks for one type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from deltaprune._registry import UserError
from deltaprune.mamba import MambaLM

# Relative distance of the logits. Unrelated ones lie 1.4 apart; in bfloat16, which the two round in different places,
# 0.02 to 0.06 was seen over 16 to 64 layers of widths from 256 to 2560.
AGREE = {torch.float32: 1e-3, torch.bfloat16: 0.2}


class PeerDisagrees(ArithmeticError):
    """A peer computes something else: the two times would not be of the same work."""


@dataclass(frozen=True)
class Peer:
    """Another engine with our weights.

    Attributes:
        name: what runs.
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


def peers(lm: MambaLM) -> list[Peer]:
    """The peers that are installed and can run where the LM is.

    On a GPU transformers takes mamba_ssm's kernels when they can be imported; the peer then bears their name.
    """
    weight, fused = lm.backbone.embedding.weight, find_spec("mamba_ssm") is not None
    if fused and not weight.is_cuda:
        return []  # transformers would call the CUDA kernels on CPU tensors
    if fused:
        return [_transformers(lm, "transformers+mamba_ssm", use_mambapy=False)]
    found = [_transformers(lm, "transformers", use_mambapy=False)]
    if find_spec("mambapy") is not None and weight.dtype == torch.float32:  # with bfloat16 transformers' call fails
        found.append(_transformers(lm, "transformers+mambapy", use_mambapy=True))
    return found


def check_peer(peer: Peer, x: Tensor, logits: Tensor) -> float:
    """Relative distance of a peer's logits after the rows `x (B, L, d)` from ours.

    Raises:
        PeerDisagrees: it is larger than the roundings of the two explain.
    """
    theirs = peer.logits(peer.prefill(x)[0])[..., : logits.shape[-1]]
    distance = ((theirs - logits).norm() / logits.norm()).item()
    if not distance <= AGREE[peer.dtype]:
        raise PeerDisagrees(
            f"{peer.name} and this library disagree on the same weights: their logits lie {distance:.1e} apart, "
            f"relatively, and {AGREE[peer.dtype]:.0e} is allowed. No time was taken."
        )
    return distance


def _transformers(lm: MambaLM, name: str, use_mambapy: bool) -> Peer:
    """transformers' `MambaForCausalLM` around our tensors."""
    theirs, dtype = _shared(lm, use_mambapy), lm.backbone.embedding.weight.dtype

    @torch.no_grad()
    def prefill(x: Tensor) -> tuple[Tensor, Any]:
        out = theirs.backbone(inputs_embeds=x.to(dtype), use_cache=True)
        return out.last_hidden_state[:, -1], out.cache_params

    @torch.no_grad()
    def decode(ids: Tensor, cache: Any) -> Tensor:
        return theirs(input_ids=ids[:, None], cache_params=cache, use_cache=True).logits[:, -1].float()

    @torch.no_grad()
    def logits(hidden: Tensor) -> Tensor:
        return theirs.lm_head(hidden.to(dtype)).float()

    return Peer(name, dtype, prefill, decode, logits)


def _shared(lm: MambaLM, use_mambapy: bool) -> Any:
    """Their model, built without memory and given our tensors."""
    from transformers import MambaConfig, MambaForCausalLM
    from transformers.utils import logging

    ours, dtype = lm.config, lm.backbone.embedding.weight.dtype
    config = MambaConfig(
        hidden_size=ours.d_model,
        num_hidden_layers=ours.n_layers,
        vocab_size=ours.padded_vocab,
        state_size=ours.d_state,
        conv_kernel=ours.d_conv,
        expand=ours.expand,
        time_step_rank=ours.rank,
        layer_norm_epsilon=ours.norm_eps,
        use_mambapy=use_mambapy,
        pad_token_id=0,
    )
    logging.set_verbosity_error()  # it warns that it has no CUDA kernels
    with torch.device("meta"):
        theirs = MambaForCausalLM(config)
    tensors = {
        key.replace("backbone.embedding.", "backbone.embeddings."): value.to(dtype)
        for key, value in lm.state_dict().items()
    }
    theirs.load_state_dict({**tensors, "lm_head.weight": tensors["backbone.embeddings.weight"]}, assign=True)
    left = [key for key, value in theirs.state_dict().items() if value.is_meta]
    if left:
        raise UserError(f"This version of transformers has tensors of Mamba that we do not know: {', '.join(left)}.")
    return theirs.eval().requires_grad_(False)
