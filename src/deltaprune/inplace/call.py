"""One forward call of a model: which rows are live, how they lie, and what each layer is handed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from deltaprune.errors import UserError
from deltaprune.inplace.cache import PrunedLayer, check_cache, is_continued, is_pruned, pruned_layer
from deltaprune.inplace.families import Added
from deltaprune.inplace.inputs import Inputs
from deltaprune.inplace.layout import Layout
from deltaprune.inplace.masks import Masks, New
from deltaprune.inplace.probes import Seen
from deltaprune.inplace.target import Target
from deltaprune.pruner import Pruner, raise_if_not_finite
from deltaprune.rows import Rows
from deltaprune.steps import Step
from deltaprune.trace import Trace


class Call:
    """What one call of the model knows. Its parts are called by the hooks of `attach`, in the order of the layers.

    Args:
        target: the model.
        steps: the method's.
        inputs: the model's arguments.

    Attributes:
        pruner: at work on the call's rows; None where they hold no image.
    """

    def __init__(self, target: Target, steps: Sequence[Step], inputs: Inputs):
        self.target, self.inputs = target, inputs
        self.masks = Masks(target.text.config)
        self.added: dict[int, Added] = {}
        self.layout = Layout.of(inputs.lengths, inputs.ids.device, inputs.ids.shape[1])
        self.columns: Tensor | None = None  # of the call, for each place of the layout; None while all are there
        self.pruner: Pruner | None = None
        if inputs.visual is not None:
            self.pruner = Pruner(target, steps)
            if inputs.logits > 1 and any(stage.candidates == "all" for stage in self.pruner.stages.values()):
                raise UserError(
                    f"logits_to_keep={inputs.logits}, but where text is pruned too only its last row is sure to stay."
                )
            self.rows = rows_of(inputs.visual, inputs.lengths)
        self.continued = False  # whether the cache held rows before this call
        self._aside: tuple[Tensor, Layout, Tensor | None, Tensor] | None = None
        self._tables: dict[int, tuple[Tensor, Tensor]] = {}

    def enter(self, l: int, hidden: Tensor, handed: dict[str, Any]) -> Tensor:
        """What enters layer l in place of `hidden`; `handed` are the layer's other arguments, put right in place."""
        if l in self.added:
            more = self.added.pop(l)().to(hidden.device, hidden.dtype)
            hidden = hidden + (more if self.columns is None else taken(more, self.columns))
        cache = handed.get("cache")
        if l == 0:
            check_cache(cache)
            self.continued = is_continued(cache)
        if self.pruner is not None and l in self.pruner.stages:
            hidden = self._stage(l, hidden)
        if self.pruner is not None and l in self.pruner.passes and any(self.rows.n_visual):
            hidden = self._set_aside(hidden)
        if self.columns is not None:
            tables = handed.get("position_embeddings")
            if tables is not None:
                handed["position_embeddings"] = tuple(self._gathered(table) for table in tables)
            if handed.get("position_ids") is not None:
                handed["position_ids"] = self._gathered(handed["position_ids"])
        self._mask(l, hidden, cache, handed)
        return hidden

    def leave(self, hidden: Tensor) -> Tensor:
        """What left a layer that the image passes by, with the image as it was."""
        if self._aside is None:
            return hidden
        whole, layout, columns, index = self._aside
        x = layout.pack(whole).index_copy(0, index, self.layout.pack(hidden))
        self._live(layout, columns)
        self._aside = None
        return layout.unpack(x)

    def read(self, l: int, hidden: Tensor, handed: Mapping[str, Any]) -> None:
        """Tell the stages behind layer l what they read; `hidden` is what its mixer takes, after the layer's norm."""
        needs = frozenset() if self.pruner is None else self.pruner.needs(l)
        if self.pruner is None or not needs:
            return
        layer = self._held(handed.get("cache"), l)
        seen = Seen(
            hidden,
            self.layout.valid,
            handed.get("position_embeddings"),
            keys=layer.keys if layer is not None and layer.is_initialized else None,
            keys_valid=layer.valid if isinstance(layer, PrunedLayer) else self.inputs.earlier,
        )
        told = self.target.blocks[l](self.target.mixers[l], seen, needs)
        self.pruner.tell(l, Trace({role: self.layout.pack(told[role]) for role in needs}))

    def finish(self) -> None:
        """After the last layer: what was kept, and whether every score was finite."""
        if self.pruner is not None:
            raise_if_not_finite(self.pruner.checks)
            self.target.kept = self.pruner.kept

    def _stage(self, l: int, hidden: Tensor) -> Tensor:
        assert self.pruner is not None
        before = self.rows.with_x(self.layout.pack(hidden).float())
        after = self.pruner.enter(l, before)
        assert after is not None
        self.rows = after.with_x(after.x.new_empty(len(after.x), 0))
        if after.lengths == before.lengths:
            return hidden if after.x is before.x else self.layout.unpack(after.x).to(hidden.dtype)
        total = self.inputs.ids.shape[1]
        pads = torch.tensor([total - n for n in self.inputs.lengths]).to(hidden.device, non_blocking=True)
        samples = torch.tensor(after.lengths).to(hidden.device, non_blocking=True)
        shift = torch.repeat_interleave(pads, samples, output_size=sum(after.lengths))
        layout = Layout.of(after.lengths, hidden.device)
        self._live(layout, layout.unpack(after.origin + shift))
        return self.layout.unpack(after.x).to(hidden.dtype)

    def _set_aside(self, hidden: Tensor) -> Tensor:
        """The text rows alone, the image for `leave` to bring back."""
        index, words = self.rows.text, [n - v for n, v in zip(self.rows.lengths, self.rows.n_visual, strict=True)]
        columns = self.columns
        if columns is None:
            columns = torch.arange(hidden.shape[1], device=hidden.device).expand(len(hidden), -1)
        self._aside = hidden, self.layout, self.columns, index
        layout = Layout.of(words, hidden.device)
        text = layout.unpack(self.layout.pack(hidden)[index])
        self._live(layout, layout.unpack(self.layout.pack(columns)[index]))
        return text

    def _live(self, layout: Layout, columns: Tensor | None) -> None:
        """From now on these columns of the call, in this layout."""
        if layout.valid is not None and columns is not None and self.continued:
            raise UserError(
                "In a chat that goes on from a cache, the samples of a batch have to keep the same number of rows, "
                "which images of different size do not: continue the chats one by one."
            )
        self.layout, self.columns = layout, columns
        self._tables.clear()

    def _gathered(self, table: Tensor) -> Tensor:
        """`(B, T, ...)` or `(1, T, ...)` of the call -> `(B, W, ...)` of the rows left; once for all layers."""
        assert self.columns is not None
        known = self._tables.get(id(table))
        if known is None:
            known = self._tables[id(table)] = table, taken(table, self.columns.to(table.device))
        return known[1]

    def _held(self, cache: Cache | None, l: int) -> Any:
        """Layer l of the cache if attention keeps its rows there."""
        if cache is None or self.target.blocks[l].sees != "all" or l >= len(cache.layers):
            return None
        return cache.layers[l]

    def _mask(self, l: int, hidden: Tensor, cache: Cache | None, handed: dict[str, Any]) -> None:
        sees = self.target.blocks[l].sees
        if sees == "state" and self.columns is not None:
            handed["attention_mask"] = None if self.layout.valid is None else self.layout.valid.long()
        if sees != "all" or (self.columns is None and not is_pruned(cache, l)):
            return
        if cache is not None:
            pruned_layer(cache, l, self.inputs.earlier)
        new = New(self.inputs.ids.shape[1], hidden.shape[1], self.layout.valid)
        handed["attention_mask"] = self.masks.causal(hidden, cache, l, new)


def taken(table: Tensor, columns: Tensor) -> Tensor:
    """`(B, T, ...)`, or `(1, T, ...)` for all samples, at the columns `(B, W)` of each sample."""
    samples = torch.arange(len(columns), device=table.device)[:, None]
    return table.expand(len(columns), *table.shape[1:])[samples, columns]


def rows_of(visual: Tensor, lengths: Sequence[int]) -> Rows:
    """The rows of a call before any layer, without their stream: which are visual, `(B, T)`, pads on the left."""
    samples = [flags[len(flags) - n :] for flags, n in zip(visual, lengths, strict=True)]
    return Rows.mixed([torch.empty(len(flags), 0, device=flags.device) for flags in samples], samples)
