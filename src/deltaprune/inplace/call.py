"""One forward call of a model: which rows are live, how they lie, and what each layer is handed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from deltaprune.errors import UserError
from deltaprune.inplace.cache import PrunedLayer, check_cache, is_continued, is_pruned, pruned_layer
from deltaprune.inplace.families import Added
from deltaprune.inplace.inputs import Inputs
from deltaprune.inplace.layout import Layout
from deltaprune.inplace.masks import Masks, New
from deltaprune.inplace.probes import OUTPUT, Seen
from deltaprune.inplace.probes.attention import Attention
from deltaprune.inplace.target import Target
from deltaprune.inplace.views import Split, View, taken
from deltaprune.inplace.writing import Joined, Passing, packed
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
        self.view = View(Layout.of(inputs.lengths, inputs.ids.device, inputs.ids.shape[1]))
        self.passing: Passing | None = None  # in a layer that the image passes by
        self.pruner: Pruner | None = None
        if inputs.visual is not None:
            self.pruner = Pruner(target, steps)
            if inputs.logits > 1 and any(stage.candidates == "all" for stage in self.pruner.stages.values()):
                raise UserError(
                    f"logits_to_keep={inputs.logits}, but where text is pruned too only its last row is sure to stay."
                )
            self.rows = rows_of(inputs.visual, inputs.lengths)
        self.continued = False  # whether the cache held rows before this call
        self._split: Split | None = None  # of the view
        self._awaiting: tuple[int, Trace] | None = None  # a layer whose output is still to be heard

    def enter(self, l: int, hidden: Tensor, handed: dict[str, Any]) -> Tensor:
        """What enters layer l in place of `hidden`; `handed` are the layer's other arguments, put right in place."""
        if self._awaiting is not None:
            raise UserError(
                f"Layer {self._awaiting[0]} ran as one kernel that gives no output before the gate, as in training: "
                "call model.eval() first, or take another score."
            )
        if l in self.added:
            more = self.added.pop(l)().to(hidden.device, hidden.dtype)
            hidden = hidden + (more if self.view.columns is None else taken(more, self.view.columns))
        cache = handed.get("cache")
        if l == 0:
            check_cache(cache)
            self.continued = is_continued(cache)
        if self.pruner is not None and l in self.pruner.stages:
            hidden = self._stage(l, hidden)
        view = self.view
        if self.pruner is not None and l in self.pruner.passes and any(self.rows.n_visual):
            self.passing = self._passing(l, hidden, handed)
            view, hidden = self.passing.split.text, self.passing.split.narrow(hidden)
        if view.columns is not None:
            if "position_embeddings" in handed:
                handed["position_embeddings"] = mapped(handed["position_embeddings"], view.of)
            if handed.get("position_ids") is not None:
                handed["position_ids"] = view.of(handed["position_ids"])
        self._mask(l, hidden, cache, handed, view)
        return hidden

    def leave(self, output: Any) -> Any:
        """What left a layer that the image passes by, with the image as it was; some layers give more beside it."""
        if self.passing is None:
            return output
        passing, self.passing = self.passing, None
        return (passing.leave(output[0]), *output[1:]) if isinstance(output, tuple) else passing.leave(output)

    def mix(self, l: int, hidden: Tensor, handed: dict[str, Any]) -> Tensor:
        """What enters the mixer of layer l in place of `hidden`, which comes from the layer's norm; as for `enter`."""
        passing, probe = self.writing(l), self.target.blocks[l]
        if passing is None:
            self._read(l, hidden, self.view, handed.get("position_embeddings"), handed.get("cache"))
            return hidden
        split = passing.split
        self._read(l, hidden, split.whole, passing.rotary, handed.get("cache"))
        alone = probe.writes_alone and hidden.device.type == "cpu" and not learns(self.target.mixers[l], hidden)
        runs = split.in_turn(probe.shortest) if alone else None
        if runs is not None:
            handed["attention_mask"] = None
            if handed.get("cache") is None:
                handed["cache"] = DynamicCache(config=self.target.text.config)
            return passing.in_turn(runs, self.target.mixers[l], probe, hidden, handed)
        passing.mixing = True
        if not isinstance(probe, Attention):
            handed["attention_mask"] = passing.mask
            return hidden
        rotary = mapped(passing.rotary, lambda table: packed(split, table))
        image = packed(split, hidden)
        key, value = probe.keys_and_values(self.target.mixers[l], image, rotary)
        handed["cache"] = Joined(handed.get("cache"), split, key[0], value[0])
        return split.narrow(hidden)

    def writing(self, l: int) -> Passing | None:
        """Layer l if image rows only write there."""
        now = self.passing
        return now if now is not None and now.layer == l and now.how == "write" else None

    def _read(self, l: int, hidden: Tensor, view: View, rotary: Any, cache: Cache | None) -> None:
        """Tell the stages behind layer l what they read; `hidden` is what its mixer takes, after the layer's norm."""
        needs = frozenset() if self.pruner is None else self.pruner.needs(l)
        if self.pruner is None or not needs:
            return
        layer = self._held(cache, l)
        seen = Seen(
            hidden,
            view.layout.valid,
            rotary,
            keys=layer.keys if layer is not None and layer.is_initialized else None,
            keys_valid=layer.valid if isinstance(layer, PrunedLayer) else self.inputs.earlier,
        )
        probe = self.target.blocks[l]
        known = needs if probe.gate is None else needs - OUTPUT
        told = probe(self.target.mixers[l], seen, known)
        rows = {role: view.layout.pack(told[role]) for role in known - probe.of_layer}
        trace = Trace(rows, {role: told[role] for role in known & probe.of_layer})
        if known == needs:
            self.pruner.tell(l, trace)
        else:
            self._awaiting = l, trace

    def overhear(self, l: int, output: Tensor) -> None:
        """The role `output` of layer l, whose mixer hands it to its gate as `(B W ..., n)`."""
        if self._awaiting is None or self._awaiting[0] != l:  # it decodes
            return
        (_, trace), self._awaiting = self._awaiting, None
        layout = self.view.layout
        assert self.pruner is not None
        rows = output.reshape(len(layout.lengths), layout.width, -1).float()
        self.pruner.tell(l, trace.told(output=layout.pack(rows)))

    def finish(self) -> None:
        """After the last layer: what was kept, and whether every score was finite."""
        if self.pruner is not None:
            raise_if_not_finite(self.pruner.checks)
            self.target.kept = self.pruner.kept

    def _stage(self, l: int, hidden: Tensor) -> Tensor:
        assert self.pruner is not None
        before = self.rows.with_x(self.view.layout.pack(hidden).float())
        after = self.pruner.enter(l, before)
        assert after is not None
        self.rows = after.with_x(after.x.new_empty(len(after.x), 0))
        if after.lengths == before.lengths:
            return hidden if after.x is before.x else self.view.layout.unpack(after.x).to(hidden.dtype)
        total = self.inputs.ids.shape[1]
        pads = torch.tensor([total - n for n in self.inputs.lengths]).to(hidden.device, non_blocking=True)
        samples = torch.tensor(after.lengths).to(hidden.device, non_blocking=True)
        shift = torch.repeat_interleave(pads, samples, output_size=sum(after.lengths))
        layout = Layout.of(after.lengths, hidden.device)
        self.view, self._split = View(layout, layout.unpack(after.origin + shift)), None
        self._check_pads(self.view)
        return self.view.layout.unpack(after.x).to(hidden.dtype)

    def _passing(self, l: int, hidden: Tensor, handed: Mapping[str, Any]) -> Passing:
        """Layer l, which the image passes by."""
        assert self.pruner is not None
        if self._split is None:
            self._split = Split(self.view, self.rows, hidden.device)
        if self.pruner.passes[l] == "skip":
            self._check_pads(self._split.text)
        if self.pruner.passes[l] == "skip" or self.target.blocks[l].sees == "none":
            return Passing(l, "skip", self._split, hidden)
        rotary = mapped(handed.get("position_embeddings"), self.view.of)
        mask = handed.get("attention_mask") if self.view.columns is None else _valid(self.view)
        return Passing(l, "write", self._split, hidden, mask, rotary)

    def _check_pads(self, view: View) -> None:
        if view.layout.valid is not None and view.columns is not None and self.continued:
            raise UserError(
                "In a chat that goes on from a cache, the samples of a batch have to keep the same number of rows, "
                "which images of different size do not: continue the chats one by one."
            )

    def _held(self, cache: Cache | None, l: int) -> Any:
        """Layer l of the cache if attention keeps its rows there."""
        if cache is None or self.target.blocks[l].sees != "all" or l >= len(cache.layers):
            return None
        return cache.layers[l]

    def _mask(self, l: int, hidden: Tensor, cache: Cache | None, handed: dict[str, Any], view: View) -> None:
        sees, writing = self.target.blocks[l].sees, self.writing(l)
        if sees == "state" and view.columns is not None:
            handed["attention_mask"] = _valid(view)
        if sees != "all":
            return
        entering = view if writing is None else writing.split.whole
        pruned = entering.columns is not None or is_pruned(cache, l)
        if pruned and cache is not None:
            pruned_layer(cache, l, self.inputs.earlier)
        new = New(self.inputs.ids.shape[1], entering.layout.width, entering.layout.valid)
        if writing is not None:
            handed["attention_mask"] = self.masks.text(hidden, cache, l, new, writing.split, self.inputs.earlier)
        elif pruned:
            handed["attention_mask"] = self.masks.causal(hidden, cache, l, new)


def mapped(tables: tuple[Tensor, Tensor] | None, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor] | None:
    """Both rotary tables, cos and sin, changed alike."""
    return None if tables is None else (function(tables[0]), function(tables[1]))


def learns(mixer: nn.Module, hidden: Tensor) -> bool:
    """Whether gradients will be asked of a mixer, whose cache is overwritten where it runs piece by piece."""
    return torch.is_grad_enabled() and (hidden.requires_grad or any(each.requires_grad for each in mixer.parameters()))


def _valid(view: View) -> Tensor | None:
    """The mask of a mixer that goes through rows one by one."""
    return None if view.layout.valid is None else view.layout.valid.long()


def rows_of(visual: Tensor, lengths: Sequence[int]) -> Rows:
    """The rows of a call before any layer, without their stream: which are visual, `(B, T)`, pads on the left."""
    samples = [flags[len(flags) - n :] for flags, n in zip(visual, lengths, strict=True)]
    return Rows.mixed([torch.empty(len(flags), 0, device=flags.device) for flags in samples], samples)
