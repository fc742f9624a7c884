"""Masks of layers that see fewer rows, made by transformers' own functions for the attention in use."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache
from transformers.masking_utils import create_causal_mask

from deltaprune.inplace.cache import PrunedLayer


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
