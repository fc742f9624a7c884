"""Masks of layers that see fewer rows, made by transformers' own functions for the attention in use."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache
from transformers.masking_utils import create_causal_mask

from deltaprune.inplace.cache import PrunedLayer
from deltaprune.inplace.views import Split


class New(NamedTuple):
    """The rows of one call as they reach a layer.

    Attributes:
        rows: columns of the call before any pruning, pads included.
        width: columns that reach the layer.
        valid: which of these are no pads, `(B, width)`; None where none are.
    """

    rows: int
    width: int
    valid: Bool[Tensor, "B W"] | None


class Masks:
    """The masks of one call; layers that hold the same rows share one.

    Args:
        config: of the text model; it names the attention in use.
    """

    def __init__(self, config: Any):
        self.config = config
        self._made: dict[object, tuple[object, Any, Tensor | None]] = {}

    def causal(self, hidden: Tensor, cache: Cache | None, l: int, new: New) -> Any:
        """What an attention layer takes as `attention_mask`, and its cache layer told what will come.

        Args:
            hidden: what enters the layer, `(B, W, d)`.
            cache: its layer l is a `PrunedLayer`; None without a cache.
            l: the layer.
            new: the rows of this call.
        """
        held = None if cache is None else cache.layers[l]
        assert held is None or isinstance(held, PrunedLayer)
        old = None if held is None else held.valid
        key = None if held is None else (held.held, held.seen, id(old)), id(new.valid), new.width
        if key not in self._made:
            n_held, seen = (0, 0) if held is None else (held.held, held.seen)
            valid = joined(old, new.valid, n_held, new.width, hidden)
            seen_2d = None if valid is None else pad(valid, (seen - n_held, 0), value=True)
            mask = create_causal_mask(self.config, hidden, seen_2d, cache=cache, position_ids=None, layer_idx=l)
            self._made[key] = (old, new.valid), mask, valid  # both are held: an id must not be used again
        _, mask, valid = self._made[key]
        if held is not None:
            held.expect(new.rows, valid)
        return mask

    def text(
        self, hidden: Tensor, cache: Cache | None, l: int, new: New, split: Split, earlier: Bool[Tensor, "B n"] | None
    ) -> Tensor:
        """The same where text rows alone attend, to all rows; the cache layer may be one that nothing was dropped from.

        Args:
            hidden, cache, l, new: as for `causal`.
            split: text and image of the rows.
            earlier: which rows of earlier calls are no pads, for such a layer.
        """
        held: Any = None if cache is None or l >= len(cache.layers) else cache.layers[l]
        pruned = isinstance(held, PrunedLayer)
        n_old = 0 if held is None else held.held if pruned else held.get_seq_length()
        old = held.valid if pruned else earlier if n_old else None
        key = "text", id(split), id(old), n_old
        if key not in self._made:
            mask = text_mask(split, hidden, old, n_old, self.config._attn_implementation)
            self._made[key] = (split, old), mask, joined(old, new.valid, n_old, new.width, hidden)
        _, mask, valid = self._made[key]
        if pruned:
            held.expect(new.rows, valid)
        return mask


def joined(
    old: Bool[Tensor, "B n"] | None, new: Bool[Tensor, "B W"] | None, n_old: int, n_new: int, like: Tensor
) -> Bool[Tensor, "B m"] | None:
    """Which of the old rows, then of the new ones, are no pads; None where none are."""
    if old is None and new is None:
        return None
    parts = [
        torch.ones(len(like), n, dtype=torch.bool, device=like.device) if part is None else part.to(like.device)
        for part, n in ((old, n_old), (new, n_new))
    ]
    return torch.cat(parts, 1)


def text_mask(split: Split, hidden: Tensor, old: Tensor | None, n_old: int, attention: str) -> Tensor:
    """What text rows attend to, `(B, 1, w, n_old + W)`: all earlier rows, then those up to their own place.

    Args:
        split: the rows.
        hidden: what enters the layer, for the type.
        old: which of the `n_old` rows of earlier calls are no pads, `(B, n_old)`; None where none are.
        n_old: how many there are.
        attention: "sdpa", which takes booleans, or "eager", which adds.
    """
    places, layout = split.places, split.whole.layout
    allowed = torch.arange(layout.width, device=places.device) <= places[..., None]
    if layout.valid is not None:
        allowed &= layout.valid[:, None]
    earlier = allowed.new_ones(len(allowed), n_old) if old is None else old.to(allowed.device)
    allowed = torch.cat([earlier[:, None].expand(-1, allowed.shape[1], -1), allowed], -1)[:, None]
    if attention == "sdpa":
        return allowed
    return torch.zeros_like(allowed, dtype=hidden.dtype).masked_fill(~allowed, torch.finfo(hidden.dtype).min)
