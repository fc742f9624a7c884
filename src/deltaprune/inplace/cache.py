"""A layer of transformers' cache that has seen fewer rows than the prompt had."""

from typing import Any, cast

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from deltaprune.errors import UserError


class PrunedLayer(DynamicLayer):
    """Keys and values of the rows that reached one attention layer.

    What it holds moves with the cache: copied, reordered or repeated with it. To the model it answers with the unpruned
    length, from which positions and the part of a chat that is new are counted; masks are made for the rows that are
    there, whose columns are the last of all.

    Attributes:
        seen: rows of the unpruned sequence so far, pads included.
        valid: which of the held rows are real, `(B, n)`; None where all are.
    """

    is_croppable = False

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.seen = 0
        self.valid: Bool[Tensor, "B n"] | None = None
        self._coming: tuple[int, Bool[Tensor, "B n"] | None] | None = None

    @classmethod
    def adopt(cls, layer: DynamicLayer, valid: Bool[Tensor, "B n"] | None) -> "PrunedLayer":
        """A layer that held every row so far; `valid` says which of them are no pads."""
        new = cls()
        if layer.is_initialized and layer.keys is not None:
            new.lazy_initialization(layer.keys, layer.keys)
            new.keys, new.values = layer.keys, layer.values
            new.seen, new.valid = layer.get_seq_length(), valid
        return new

    @property
    def held(self) -> int:
        """Rows whose keys are here."""
        return super().get_seq_length()

    def expect(self, rows: int, valid: Bool[Tensor, "B n"] | None) -> None:
        """The next update stands for `rows` rows of the unpruned sequence; `valid` is of all rows held after it."""
        self._coming = rows, valid

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        rows, valid = self._coming or (key_states.shape[-2], self._grown(key_states.shape[-2]))
        self._coming = None
        self.seen, self.valid = self.seen + rows, valid
        return super().update(key_states, value_states, *args, **kwargs)

    def _grown(self, more: int) -> Tensor | None:
        return None if self.valid is None else torch.nn.functional.pad(self.valid, (0, more), value=True)

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.held + query_length, self.seen - self.held

    def reset(self) -> None:
        self.seen, self.valid, self._coming = 0, None, None
        super().reset()

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise UserError(
                "A pruned cache cannot take tokens back, as assisted decoding and prompt lookup ask of it: generate "
                "without assistant_model and prompt_lookup_num_tokens."
            )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(cast(Any, beam_idx))
        self._pick(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._pick(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        if self.valid is not None:
            self.valid = self.valid.repeat_interleave(repeats, dim=0)

    def _pick(self, index: Tensor) -> None:
        if self.valid is not None:
            self.valid = self.valid[index.to(self.valid.device)]


def check_cache(cache: object) -> None:
    """A cache whose layers can hold fewer rows than the prompt has, else a `UserError`."""
    if cache is None:
        return
    if type(cache) is not DynamicCache:
        raise UserError(
            f"A pruned prompt cannot be kept in a {type(cache).__name__}: static, quantized and compiled caches have "
            "one length for all layers; leave out cache_implementation, or pass transformers' DynamicCache."
        )
    for l, layer in enumerate(cache.layers):
        if getattr(layer, "is_sliding", False):
            raise UserError(
                f"Layer {l} of the cache has a sliding window, which counts rows and not positions: it is not pruned."
            )
        if getattr(layer, "record_past", False):
            raise UserError(
                "The cache records its past, as assisted decoding asks of it: a pruned model generates without "
                "assistant_model and prompt_lookup_num_tokens."
            )


def pruned_layer(cache: Cache, l: int, valid: Bool[Tensor, "B n"] | None) -> PrunedLayer:
    """Layer l of the cache, from now on one that may hold fewer rows; `valid` tells the pads among those it has."""
    while cache.layer_class_to_replicate is not None and len(cache.layers) <= l:
        cache.layers.append(cache.layer_class_to_replicate())
    layer = cache.layers[l]
    if not isinstance(layer, PrunedLayer):
        cache.layers[l] = layer = PrunedLayer.adopt(cast(DynamicLayer, layer), valid)
    return layer


def is_continued(cache: Cache | None) -> bool:
    """Whether the cache has seen rows; nothing is read from the device."""
    layers = () if cache is None else cache.layers
    return any(isinstance(layer, CacheLayerMixin) and layer.get_seq_length() > 0 for layer in layers)


def is_pruned(cache: Cache | None, l: int) -> bool:
    """Whether the mask that the model made does not fit layer l, which holds fewer rows than it was sized for.

    It was sized for the first attention layer, which may be the one that holds fewer.
    """
    layers = [] if cache is None else cache.layers
    first = next((layer for layer in layers if isinstance(layer, CacheLayerMixin)), None)
    return isinstance(first, PrunedLayer) or (l < len(layers) and isinstance(layers[l], PrunedLayer))
