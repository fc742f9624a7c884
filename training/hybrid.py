"""A small Qwen3.5 of transformers' own and its differentiable forward pass on a forest of images and questions.

Modules, weights and the vision tower are transformers'; only the text model's layers are gone through here, so that an
image is read once for all of its questions. Positions are those that transformers gives a prompt that begins with the
image (M-RoPE).
"""

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.delta import delta_rule
from training.lessons import Lesson
from training.scan import conv_silu

MEAN = STD = 0.5  # of the pixels


@dataclass(frozen=True)
class Forest:
    """How a lesson's rows hang together.

    Attributes:
        cu_seqlens, parent: as in `Lesson`.
        sizes: rows of each root and of all its children, in turn.
        masks: (c, r + c) of each root: which rows its children see; True for seen.
        rope: cosines and sines of the rows, (1, T, rotary).
    """

    cu_seqlens: Tensor
    parent: Tensor
    sizes: list[int]
    masks: list[Tensor]
    rope: tuple[Tensor, Tensor]


class HybridLearner:
    """What a classroom needs of a Qwen3.5, see `training.network.Learner`."""

    def __init__(self, model: Any):
        self.model = model
        self.text = model.model.language_model
        self.layers, self.norm = self.text.layers, self.text.norm
        self.words: Tensor = self.text.embed_tokens.weight
        self.vision_width: int = model.config.vision_config.hidden_size

    def see(self, lesson: Lesson) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The tower's features (I, f), the image rows that enter the text model (I, d), the labels of their patches."""
        patches, grids = patches_of(lesson)
        seen = self.model.model.visual(patches, grid_thw=grids)
        labels = {name: label[lesson.inside] for name, label in lesson.patches.items()}
        return seen.last_hidden_state, seen.pooler_output, labels

    def forest(self, lesson: Lesson) -> Forest:
        """What all layers share."""
        sizes, masks = families(lesson.cu_seqlens, lesson.parent)
        where = positions(lesson)[:, None]
        cos, sin = self.text.rotary_emb(self.words, where)
        return Forest(lesson.cu_seqlens, lesson.parent, sizes, masks, (cos, sin))

    def layer(self, layer: Any, x: Tensor, forest: Forest) -> Tensor:
        """One decoder layer on packed rows (T, d)."""
        normed = layer.input_layernorm(x)
        mixed = (
            gated_delta(layer.linear_attn, normed, forest)
            if layer.block_type == "linear_attention"
            else attention(layer.self_attn, normed, forest)
        )
        x = x + mixed
        return x + layer.mlp(layer.post_attention_layernorm(x))


def gated_delta(m: Any, x: Tensor, forest: Forest) -> Tensor:
    """transformers' `Qwen3_5GatedDeltaNet` on packed rows."""
    hang = forest.cu_seqlens, forest.parent
    taps = m.conv1d.weight[:, 0]
    mixed = conv_silu(m.in_proj_qkv(x).float(), taps, taps.new_zeros(len(taps)), *hang)
    q, k, v = mixed.split([m.key_dim, m.key_dim, m.value_dim], dim=-1)
    q, k = (unit(t.unflatten(-1, (m.num_k_heads, m.head_k_dim))) for t in (q, k))
    v, z = (t.unflatten(-1, (m.num_v_heads, m.head_v_dim)) for t in (v, m.in_proj_z(x)))
    g = -m.A_log.exp() * F.softplus(m.in_proj_a(x).float() + m.dt_bias)
    read = delta_rule(q * m.head_k_dim**-0.5, k, v, g, m.in_proj_b(x).float().sigmoid(), *hang)
    return m.out_proj(m.norm(read, z).flatten(1))


def unit(x: Tensor) -> Tensor:
    """Vectors of length one, with the eps that transformers adds."""
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-6)


def attention(m: Any, x: Tensor, forest: Forest) -> Tensor:
    """transformers' `Qwen3_5Attention` on packed rows: a child sees its root and what it holds itself."""
    q, gate = m.q_proj(x).unflatten(-1, (-1, 2 * m.head_dim)).chunk(2, dim=-1)
    q = turned(m.q_norm(q), forest.rope)
    k = turned(m.k_norm(m.k_proj(x).unflatten(-1, (-1, m.head_dim))), forest.rope)
    v = m.v_proj(x).unflatten(-1, (-1, m.head_dim))
    k, v = (t.repeat_interleave(m.num_key_value_groups, dim=1) for t in (k, v))
    with torch.autocast(x.device.type, enabled=False):  # in bfloat16 its gradient is slower on a CPU
        read = attend(q.float(), k.float(), v.float(), forest)
    return m.o_proj(read.flatten(1) * gate.flatten(1).sigmoid())


def attend(q: Tensor, k: Tensor, v: Tensor, forest: Forest) -> Tensor:
    """Softmax attention, all (T, heads, head_dim)."""
    qs, ks, vs = (t.transpose(0, 1)[None].split(forest.sizes, dim=2) for t in (q, k, v))
    out = []
    for i, mask in enumerate(forest.masks):
        root, child = 2 * i, 2 * i + 1
        out.append(F.scaled_dot_product_attention(qs[root], ks[root], vs[root], is_causal=True))
        both = (torch.cat(t[root : child + 1], dim=2) for t in (ks, vs))
        out.append(F.scaled_dot_product_attention(qs[child], *both, attn_mask=mask))
    return torch.cat(out, dim=2)[0].transpose(0, 1)


def turned(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions: x (T, heads, head_dim)."""
    cos, sin = (t[0][:, None] for t in rope)
    moved, rest = x.split([cos.shape[-1], x.shape[-1] - cos.shape[-1]], dim=-1)
    first, second = moved.chunk(2, dim=-1)
    return torch.cat([moved * cos + torch.cat([-second, first], dim=-1) * sin, rest], dim=-1)


def families(cu_seqlens: Tensor, parent: Tensor) -> tuple[list[int], list[Tensor]]:
    """`sizes` and `masks` of a forest whose roots are followed by their children."""
    lengths, parents = cu_seqlens.diff().tolist(), parent.tolist()
    sizes, masks = [], []
    for root in (i for i, above in enumerate(parents) if above < 0):
        own = torch.tensor([lengths[i] for i, above in enumerate(parents) if above == root])
        which = torch.arange(len(own)).repeat_interleave(own)
        within = (which[:, None] == which).tril()
        sizes += [lengths[root], len(which)]
        masks.append(torch.cat([torch.ones(len(which), lengths[root], dtype=torch.bool), within], dim=1))
    return sizes, masks


def sides(lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Rows and columns of patches of each picture, (G,); a picture fills a rectangle of its frame."""
    grid = isqrt(len(lesson.inside) // len(lesson.pixels))
    inside = lesson.inside.view(-1, grid, grid)
    return inside.any(2).sum(1), inside.any(1).sum(1)


def patches_of(lesson: Lesson) -> tuple[Tensor, Tensor]:
    """Pixels (I, 3 p p) and grids (G, 3) as transformers' image processor gives them."""
    pixels = (lesson.pixels - MEAN) / STD
    patch = pixels.shape[-1] // isqrt(len(lesson.inside) // len(pixels))
    cut = pixels.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
    height, width = sides(lesson)
    return cut[lesson.inside], torch.stack([torch.ones_like(height), height, width], dim=1)


def positions(lesson: Lesson) -> Tensor:
    """Time, row and column of each packed row, (3, T): an image begins at 0, its text after its longer side."""
    height, width = (side.tolist() for side in sides(lesson))
    found, after, root = [], {}, -1
    lengths = lesson.cu_seqlens.diff().tolist()
    for i, above in enumerate(lesson.parent.tolist()):
        if above < 0:
            root += 1
            h, w = height[root], width[root]
            row, column = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
            found.append(torch.stack([torch.zeros_like(row), row, column]))
            after[i] = max(h, w)
        else:
            found.append((after[above] + torch.arange(lengths[i])).expand(3, -1))
    return torch.cat(found, dim=1)
