"""mamba_ssm's own model: its CUDA scan and convolution, its Triton norms that add the residual, its decoding step."""

import importlib
import logging
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deltaprune.cost.peers import Peer, registry
from deltaprune.cost.peers._compiled import KERNELS, installed, ran_in
from deltaprune.errors import in_words
from deltaprune.mllm.lm import MambaLM

TUNED = 512  # rows of the first call, for which its Triton norms choose their plan once and for all lengths
_LOG = logging.getLogger("deltaprune.cost")


@registry.register("mamba_ssm")
def mamba_ssm(lm: MambaLM) -> list[Peer]:
    """`MixerModel` as `MambaLMHeadModel.from_pretrained` sets it up for the published Mamba-1 models.

    A prefill keeps the states that decoding needs; without them their blocks would take `mamba_inner_fn`, made for
    training. Needs its compiled kernels and causal_conv1d's.
    """
    device = lm.backbone.embedding.weight.device
    why = missing(device)
    if why is None:
        peer = _peer(lm)
        rows = torch.randn(1, TUNED, lm.config.d_model, device=device)
        ran = ran_in(lambda: peer.prefill(rows))
        unused = [package for package in KERNELS if package not in ran]
        if not unused:
            return [peer]
        why = f"the compiled kernel of {' and '.join(unused)} did not run"
    if installed("mamba_ssm"):
        _LOG.warning("The peer mamba_ssm is left out: %s.", why)
    return []


def missing(device: torch.device) -> str | None:
    """None when mamba_ssm's compiled scan can be called, else half a sentence that says why not.

    An import is not enough: after mamba_ssm 2.3.2 the CUDA kernels are built only when asked for (pull request 977).
    """
    if not installed("mamba_ssm"):
        return "mamba_ssm is not installed"
    if device.type != "cuda":
        return "mamba_ssm's kernels need a GPU"
    try:
        interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except Exception as error:  # another package's import may raise anything
        return f"mamba_ssm cannot be imported ({in_words(error)})"
    if getattr(interface, "selective_scan_cuda", None) is None:
        return "mamba_ssm was built without its CUDA scan (MAMBA_KEEP_CUDA_BUILD=TRUE)"
    return None


def _peer(lm: MambaLM) -> Peer:
    """Their blocks and final norm around our tensors; embedding and head are one matrix."""
    from mamba_ssm.utils.generation import InferenceParams  # pyright: ignore[reportMissingImports]

    theirs, embedding = shared(lm), lm.backbone.embedding.weight

    @torch.no_grad()
    def prefill(x: Tensor) -> tuple[Tensor, Any]:
        states = InferenceParams(max_seqlen=x.shape[1], max_batch_size=x.shape[0])
        hidden = theirs(x.to(embedding.dtype), inference_params=states)
        states.seqlen_offset = x.shape[1]  # above 0 a call is one decoding step
        return hidden[:, -1], states

    @torch.no_grad()
    def decode(ids: Tensor, states: Any) -> Tensor:
        return logits(theirs(F.embedding(ids[:, None], embedding), inference_params=states)[:, -1])

    @torch.no_grad()
    def logits(hidden: Tensor) -> Tensor:
        return F.linear(hidden, embedding).float()

    return Peer("mamba_ssm", embedding.dtype, prefill, decode, logits)


def shared(lm: MambaLM) -> nn.Module:
    """Their model, built without memory and given our tensors; its embedding passes rows through.

    A and D stay in float32, as in theirs; dt's bias and the norms are cast to the weights' type.
    """
    from mamba_ssm.models.mixer_seq_simple import MixerModel  # pyright: ignore[reportMissingImports]

    ours, dtype = lm.config, lm.backbone.embedding.weight.dtype
    sizes = {"d_state": ours.d_state, "d_conv": ours.d_conv, "expand": ours.expand, "dt_rank": ours.rank}
    with torch.device("meta"):
        theirs = MixerModel(
            d_model=ours.d_model,
            n_layer=ours.n_layers,
            d_intermediate=0,
            vocab_size=ours.padded_vocab,
            ssm_cfg=sizes,
            norm_epsilon=ours.norm_eps,
            rms_norm=True,
            residual_in_fp32=True,
            fused_add_norm=True,
        )
    theirs.embedding = nn.Identity()
    tensors = lm.backbone.state_dict()
    del tensors["embedding.weight"]
    kept = (".A_log", ".D")
    theirs.load_state_dict({k: v if k.endswith(kept) else v.to(dtype) for k, v in tensors.items()}, assign=True)
    return theirs.eval().requires_grad_(False)
