"""Where the hybrid starts: random weights, and the tower of the bundled model."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from deltaprune.mllm.network import MLLM
from training.recipe import HYBRID_START, HybridStart


def new_hybrid(config: Any, bundled: MLLM | None) -> Any:
    """A model of random weights; its tower starts from the bundled model's SigLIP tower, if that is given."""
    from transformers import Qwen3_5ForConditionalGeneration

    model: Any = Qwen3_5ForConditionalGeneration(config)
    begin_hybrid(model, HYBRID_START)
    if bundled is not None:
        copy_tower(bundled.vision["siglip"], model.model.visual)
    return model


@torch.no_grad()
def begin_hybrid(model: Any, start: HybridStart) -> None:
    """torch's own start for every product; slow decay, since a start made for text forgets the image at once."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d) and module is not model.lm_head:
            module.reset_parameters()
    text = model.model.language_model
    nn.init.normal_(text.embed_tokens.weight, std=start.embedding)
    low, high = map(math.log, start.decay)
    for layer in text.layers:
        if layer.block_type == "linear_attention":
            m = layer.linear_attn
            m.dt_bias.fill_(start.step)
            rate = torch.linspace(low, high, m.num_v_heads).exp() / math.log1p(math.exp(start.step))
            m.A_log.copy_(rate.log())


@torch.no_grad()
def copy_tower(source: Any, target: Any) -> None:
    """A SigLIP tower into a Qwen3.5 tower of the same widths.

    The rotary positions, which SigLIP lacks, turn four of a head's directions much and the others hardly (`rope_theta`
    is large): they are given the directions that weigh least.
    """
    embeddings = source.vit.embeddings
    target.patch_embed.proj.weight.copy_(embeddings.patch_embedding.weight[:, :, None])
    target.patch_embed.proj.bias.copy_(embeddings.patch_embedding.bias)
    target.pos_embed.weight.copy_(embeddings.position_embedding.weight)
    for old, new in zip(source.vit.encoder.layers, target.blocks, strict=True):
        for norm, its in ((old.layer_norm1, new.norm1), (old.layer_norm2, new.norm2)):
            its.load_state_dict(norm.state_dict())
        a, n_heads = old.self_attn, new.attn.num_heads
        q, k = (torch.cat([p.weight, p.bias[:, None]], dim=1).unflatten(0, (n_heads, -1)) for p in (a.q_proj, a.k_proj))
        q, k = (t.flatten(0, 1) for t in least_first(q, k))
        new.attn.qkv.weight.copy_(torch.cat([q[:, :-1], k[:, :-1], a.v_proj.weight]))
        new.attn.qkv.bias.copy_(torch.cat([q[:, -1], k[:, -1], a.v_proj.bias]))
        new.attn.proj.load_state_dict(a.out_proj.state_dict())
        new.mlp.linear_fc1.load_state_dict(old.mlp.fc1.state_dict())
        new.mlp.linear_fc2.load_state_dict(old.mlp.fc2.state_dict())


def least_first(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Other q, k (heads, d, f) of the same q^T k, what weighs least in the channels that turn most."""
    u, s, v = torch.linalg.svd(q.mT @ k, full_matrices=False)
    d = q.shape[1]
    root = s[:, :d, None].sqrt()
    q, k = root * u[:, :, :d].mT, root * v[:, :d]
    turning = [0, d // 4, d // 2, 3 * d // 4]
    place = [*(i for i in range(d) if i not in turning), *turning]  # by falling weight
    order = torch.empty(d, dtype=torch.long)
    order[place] = torch.arange(d)
    return q[:, order], k[:, order]
