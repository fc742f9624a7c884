"""transformers' Mamba: plain, with mambapy's parallel scan, or on a GPU with the compiled kernels it finds."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from deltaprune.cost.peers import Peer, registry
from deltaprune.cost.peers._compiled import KERNELS, installed, ran_in
from deltaprune.errors import UserError
from deltaprune.mllm.lm import MambaLM


@registry.register("transformers")
def transformers(lm: MambaLM) -> list[Peer]:
    """Plain on a CPU, and with mambapy; on a GPU under the names of the compiled kernels that ran in a short prefill.

    Which kernels it takes transformers decides once, at its import, from what can be imported then; it falls back to
    plain torch without an error.
    """
    weight = lm.backbone.embedding.weight
    if not installed("transformers") or not (weight.is_cuda or not any(map(installed, KERNELS))):
        return []  # where the CUDA kernels are installed, it would call them on CPU tensors
    plain = _peer(lm, "transformers", use_mambapy=False)
    if ran := ran_in(lambda: plain.prefill(torch.zeros(1, 4, lm.config.d_model, device=weight.device))):
        return [replace(plain, name="+".join([plain.name, *ran]))]
    found = [plain]
    if installed("mambapy") and weight.dtype == torch.float32:  # with bfloat16 transformers' call fails
        found.append(_peer(lm, "transformers+mambapy", use_mambapy=True))
    return found


def _peer(lm: MambaLM, name: str, use_mambapy: bool) -> Peer:
    """transformers' `MambaForCausalLM` around our tensors."""
    from transformers.models.mamba.modeling_mamba import MambaOutput

    theirs, dtype = _shared(lm, use_mambapy), lm.backbone.embedding.weight.dtype
    # Their states' name: `cache` since transformers 5.24, which logs a warning at the old one.
    name_of_cache = next(field.name for field in fields(MambaOutput) if field.name in ("cache", "cache_params"))

    @torch.no_grad()
    def prefill(x: Tensor) -> tuple[Tensor, Any]:
        out = theirs.backbone(inputs_embeds=x.to(dtype), use_cache=True)
        return out.last_hidden_state[:, -1], getattr(out, name_of_cache)

    @torch.no_grad()
    def decode(ids: Tensor, cache: Any) -> Tensor:
        out = theirs(input_ids=ids[:, None], use_cache=True, **{name_of_cache: cache})
        return out.logits[:, -1].float()

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
