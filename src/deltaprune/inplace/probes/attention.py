"""Softmax attention as transformers' decoder layers have it: q, k and v projections, perhaps norms, perhaps rotary."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deltaprune.inplace.probes import Probe, Seen, registry


@registry.register("Qwen2Attention")
@registry.register("Qwen2_5_VLAttention")
@registry.register("Qwen3VLTextAttention")
@registry.register("LlamaAttention")
@registry.register("Lfm2Attention")
@registry.register("NemotronHAttention")
@registry.register("JambaAttention")
@registry.register("BambaAttention")
@registry.register("GraniteMoeHybridAttention")
class Attention(Probe):
    """key: the keys as they are attended to, heads side by side. value likewise. attention: what the last row pays to
    each row, the softmax over all earlier ones, mean over heads; the other rows of the matrix are never computed.
    """

    sees = "all"
    offers = frozenset({"key", "value", "attention"})

    def __call__(self, mixer: Any, seen: Seen, needs: frozenset[str]) -> Mapping[str, Tensor]:
        told = {}
        if "value" in needs:
            told["value"] = mixer.v_proj(seen.hidden).float()
        if needs & {"key", "attention"}:
            query, key = self.heads(mixer, seen)
            told["key"] = key.transpose(1, 2).flatten(-2).float()
            if "attention" in needs:
                told["attention"] = last_row(query, key, mixer.scaling, seen)
        return told

    def heads(self, mixer: Any, seen: Seen) -> tuple[Tensor, Tensor]:
        """The last row's query `(B, Hq, 1, w)` and all keys `(B, Hk, W, w)`, as they meet in the attention."""
        query, key = (
            self._normed(mixer, name, x.unflatten(-1, (-1, mixer.head_dim))).transpose(1, 2)
            for name, x in (("q", self.query(mixer, seen.hidden[:, -1:])), ("k", mixer.k_proj(seen.hidden)))
        )
        if seen.rotary is None:
            return query, key
        rotate = sys.modules[type(mixer).__module__].apply_rotary_pos_emb
        last = [table[:, -1:] for table in seen.rotary]
        return rotate(query, query, *last)[0], rotate(key, key, *seen.rotary)[0]

    def keys_and_values(
        self, mixer: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """All that a row gives to later ones, `(B, W, heads, width)` each, as the cache holds them."""
        key, value = (x(hidden).unflatten(-1, (-1, mixer.head_dim)) for x in (mixer.k_proj, mixer.v_proj))
        key = self._normed(mixer, "k", key).transpose(1, 2)
        if rotary is not None:
            key = sys.modules[type(mixer).__module__].apply_rotary_pos_emb(key, key, *rotary)[1]
        return key.transpose(1, 2), value

    def query(self, mixer: Any, hidden: Tensor) -> Tensor:
        """The query's projection, heads side by side."""
        return mixer.q_proj(hidden)

    @staticmethod
    def _normed(mixer: Any, name: str, x: Tensor) -> Tensor:
        parts = dict(mixer.named_children())
        norm = parts.get(f"{name}_norm", parts.get(f"{name}_layernorm"))
        return x if norm is None else norm(x)


@registry.register("Qwen3_5Attention")
@registry.register("Qwen3_5MoeAttention")
@registry.register("Qwen3NextAttention")
class GatedAttention(Attention):
    """The same where `q_proj` gives each head a query and a gate."""

    def query(self, mixer: Any, hidden: Tensor) -> Tensor:
        return mixer.q_proj(hidden).unflatten(-1, (-1, 2, mixer.head_dim))[..., 0, :].flatten(-2)


def last_row(query: Tensor, key: Tensor, scaling: float, seen: Seen) -> Tensor:
    """`(B, W)`: the last row's softmax over earlier rows and these, of which these are given; mean over heads."""
    width, valid = key.shape[2], seen.valid
    if seen.keys is not None:
        key = torch.cat([seen.keys.to(key.dtype), key], 2)
    query = query.unflatten(1, (key.shape[1], -1)).squeeze(-2)  # (B, Hk, Hq / Hk, w)
    logits = (query @ key.transpose(-1, -2)).float() * scaling
    if valid is not None or seen.keys_valid is not None:
        none_left_out = torch.ones(logits.shape[0], logits.shape[-1], dtype=torch.bool, device=logits.device)
        if valid is not None:
            none_left_out[:, -width:] = valid
        if seen.keys_valid is not None:
            none_left_out[:, :-width] = seen.keys_valid
        logits = logits.masked_fill(~none_left_out[:, None, None], -torch.inf)
    return logits.softmax(-1)[..., -width:].mean((1, 2))
