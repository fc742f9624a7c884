"""A layer in which image rows only write what later rows read: its mixer runs for all rows as far as that takes.

The layer is handed the text rows, so its residual adds and its MLP or experts see no image. Its first norm and its
mixer are handed all rows. In a mixer that goes through rows one by one, image rows leave out the projections that
nothing but their own output needs (`probes.Written`). An attention layer runs for the text rows alone; the image's keys
and values join the text's where these enter the cache.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.hooks import RemovableHandle

from deltaprune.inplace.probes import Probe, Written
from deltaprune.inplace.views import Split


@dataclass
class Passing:
    """One layer that the image passes by.

    Attributes:
        layer: its number.
        how: "write" or "skip".
        split: the rows.
        hidden: what enters it, image and text, `(B, W, d)`.
        mask: of all these rows as a mixer that goes through them one by one takes it.
        rotary: the rotary tables of all these rows.
        mixing: whether the mixer itself runs, and no probe that reads it.
        narrowed: whether the mixer gives its output for the text rows alone.
        before: what the mixer gave for text before the last image, where it runs in turn.
    """

    layer: int
    how: Literal["write", "skip"]
    split: Split
    hidden: Tensor
    mask: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None
    mixing: bool = False
    narrowed: bool = False
    before: list[Tensor] = field(default_factory=list)
    _inputs: dict[str, Tensor] = field(default_factory=dict)

    def leave(self, output: Tensor) -> Tensor:
        """What left the layer, with the image as it was."""
        return self.split.renewed(self.hidden, output)

    def output(self, given: Tensor) -> Tensor:
        """The text rows of what the mixer gives."""
        return torch.cat([*self.before, given], 1) if self.narrowed else self.split.narrow(given)

    def in_turn(
        self, runs: Sequence[tuple[bool, int]], mixer: Any, probe: Probe, hidden: Tensor, handed: Mapping[str, Any]
    ) -> Tensor:
        """Run by run, the text through the mixer and the image into its state; what is left to do, the last text."""
        parts = hidden.split([n for _, n in runs], 1)
        for (image, _), part in zip(runs[:-1], parts, strict=False):
            if image:
                probe.write(mixer, part, handed["cache"])
            else:
                self.before.append(mixer.forward(hidden_states=part, **handed))
        self.narrowed = True
        return parts[-1]

    def last(self, x: Tensor) -> Tensor:
        """What the output's projection is handed in place of `x`."""
        self.narrowed = True
        return self.split.narrow(x)

    def near(self, name: str, written: Written, x: Tensor) -> Tensor:
        """What a projection is handed in place of `x` `(B, W, n)`: the rows that need all of its columns."""
        self._inputs[name] = x.flatten(0, 1)
        return self._inputs[name][self.split.flat(written.reach)[0]][None]

    def far(self, name: str, written: Written, projection: Any, output: Tensor) -> Tensor:
        """The projection's output `(B, W, m)`: `output` for these rows, for the others what a written row needs."""
        x, layout = self._inputs.pop(name), self.split.whole.layout
        near, far = self.split.flat(written.reach)
        whole = output.new_zeros(len(x), output.shape[-1]).index_copy_(0, near, output[0])
        rest = x[far]
        for part in written.columns[name]:
            bias = None if projection.bias is None else projection.bias[part]
            whole[:, part].index_copy_(0, far, linear(rest, projection.weight[part], bias))
        return whole.unflatten(0, (len(layout.lengths), layout.width))


def writing_hooks(
    norm: nn.Module, mixer: nn.Module, probe: Probe, passing: Callable[[], Passing | None]
) -> list[RemovableHandle]:
    """Hooks on the parts of a layer that image rows only write to.

    Args:
        norm: in front of the mixer.
        mixer, probe: what runs, and what is known of it.
        passing: the layer as it runs now, in this thread; None where no image passes it.
    """

    def enter_norm(part: nn.Module, args: tuple[Any, ...]) -> Tensor | None:
        now = passing()
        return None if now is None else now.hidden.to(args[0].dtype)

    def leave_mixer(part: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor | None:
        now = passing()
        return None if now is None or isinstance(output, tuple) else now.output(output)

    def enter_last(part: nn.Module, args: tuple[Any, ...]) -> Tensor | None:
        now = passing()
        return None if now is None or not now.mixing else now.last(args[0])

    written = probe.written(mixer)
    handles = [norm.register_forward_pre_hook(enter_norm), mixer.register_forward_hook(leave_mixer)]
    if written is not None:
        handles.append(mixer.get_submodule(written.output).register_forward_pre_hook(enter_last))
        for name, columns in written.columns.items():
            projection = mixer.get_submodule(name)
            if narrowable(projection, columns):
                handles += _projection_hooks(projection, name, written, passing)
    return handles


def _projection_hooks(
    projection: nn.Module, name: str, written: Written, passing: Callable[[], Passing | None]
) -> list[RemovableHandle]:
    def enter(part: nn.Module, args: tuple[Any, ...]) -> Tensor | None:
        now = passing()
        return None if now is None or not now.mixing else now.near(name, written, args[0])

    def leave(part: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        now = passing()
        return None if now is None or not now.mixing else now.far(name, written, part, output)

    return [projection.register_forward_pre_hook(enter), projection.register_forward_hook(leave)]


def narrowable(projection: nn.Module, columns: tuple[slice, ...]) -> bool:
    """Whether image rows can be left out of a projection; of one that is quantized, or has an adapter, all columns are
    computed or none."""
    return not columns or type(projection) is nn.Linear


class Joined:
    """Stands for the cache within an attention layer that text rows alone run through.

    Args:
        cache: the model's, or None.
        split: the rows.
        key, value: of the image rows, packed, `(V, heads, width)`.
    """

    def __init__(self, cache: Any, split: Split, key: Tensor, value: Tensor):
        self.cache, self.split, self.key, self.value = cache, split, key, value

    def update(self, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As a cache's: the text's `(B, heads, w, width)` among the image's, and all rows before them."""
        key, value = (
            self.split.joined(text.transpose(1, 2), image.to(text.dtype)).transpose(1, 2)
            for text, image in ((key, self.key), (value, self.value))
        )
        return (key, value) if self.cache is None else self.cache.update(key, value, *args, **kwargs)


def packed(split: Split, table: Tensor) -> Tensor:
    """The image rows `(1, V, ...)` of `(B, W, ...)`, or `(1, W, ...)` for all samples."""
    layout = split.whole.layout
    table = table.expand(len(layout.lengths), *table.shape[1:])
    return layout.pack(table)[split.image.to(table.device)][None]
