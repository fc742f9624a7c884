"""`Rows`: the tokens of a batch on their way through the layers.

There is no padding: the live rows of a batch are packed one after the other. All lengths are known on the host, so that
no stage waits for the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

GAP = "gap"  # in `Rows.beside`: how many dropped rows follow each row and still decay the state, see `merge.Align`


def on_device(numbers: Sequence[int], device: torch.device | str, dtype: torch.dtype = torch.int64) -> Int[Tensor, "_"]:
    """Host integers as a tensor; they are copied to a GPU from pinned memory, without waiting for it.

    While a CUDA graph is captured the numbers are passed as arguments of kernels instead: a replay would read the
    pinned memory again, which by then holds something else.
    """
    if torch.device(device).type == "cuda" and torch.cuda.is_current_stream_capturing():
        made = [torch.full((1,), number, dtype=dtype, device=device) for number in numbers]
        return torch.cat(made) if made else torch.empty(0, dtype=dtype, device=device)
    host = torch.tensor(numbers, dtype=dtype, pin_memory=torch.device(device).type == "cuda")
    return host.to(device, non_blocking=True)


def cumulate(lengths: tuple[int, ...], device: torch.device | str = "cpu") -> Int[Tensor, "B1"]:
    """Lengths `(B,)` -> the boundaries `(B + 1,)` int32 of the packed samples, starting at 0."""
    return on_device([0, *accumulate(lengths)], device, torch.int32)


@dataclass(frozen=True)
class Rows:
    """The live rows of a batch of B samples, packed into T.

    Attributes:
        x: the residual stream, float32 (`hidden + residual` of the original code; pruning it prunes both).
        visual: whether a row is a visual token; visual rows may be anywhere in a prompt, in several images.
        origin: a row's index in its sample's unpruned sequence; ascends within a sample.
        size: how many original tokens a row represents (1 unless merged).
        cu_seqlens: int32 boundaries of the samples on the device.
        lengths: the same as host integers.
        n_visual: live visual rows per sample (host).
        n_image: visual rows per sample before any pruning (host): what `keep` is a share of.
        key: a seed per sample from its image's content, so that random choices do not depend on the batch.
        images_first: whether each sample's visual rows are known to come before its text, else the device is asked.
        beside: companions that move with the rows, `(T, ...)` each: position ids, rotary tables.
    """

    x: Float[Tensor, "T d"]
    visual: Bool[Tensor, "T"]
    origin: Int[Tensor, "T"]
    size: Int[Tensor, "T"]
    cu_seqlens: Int[Tensor, "B1"]
    lengths: tuple[int, ...]
    n_visual: tuple[int, ...]
    n_image: tuple[int, ...]
    key: Int[Tensor, "B"]
    images_first: bool = True
    beside: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def pack(
        cls,
        image: Sequence[Float[Tensor, "_ d"]],
        text: Sequence[Float[Tensor, "_ d"]],
        key: Int[Tensor, "B"] | None = None,
    ) -> "Rows":
        """Each sample is its image rows, then its text rows (either may be empty), as in Cobra and RoboMamba.

        Args:
            image, text: for each sample its rows `(n, d)`, stored in float32; all on one device.
            key: a seed for each sample; zeros if None.
        """
        x = [torch.cat([v, t]) for v, t in zip(image, text, strict=True)]
        visual = [torch.arange(len(rows), device=rows.device) < len(v) for v, rows in zip(image, x, strict=True)]
        return cls._of(x, visual, tuple(len(v) for v in image), key, True)

    @classmethod
    def mixed(
        cls,
        x: Sequence[Float[Tensor, "_ d"]],
        visual: Sequence[Bool[Tensor, "_"]],
        key: Int[Tensor, "B"] | None = None,
    ) -> "Rows":
        """Samples whose visual rows may be anywhere; their number is read from the device once.

        Args:
            x: for each sample its rows `(n, d)`, stored in float32; all on one device.
            visual: for each sample which of them are visual, `(n,)`.
            key: a seed for each sample; zeros if None.
        """
        return cls._of(x, visual, tuple(int(mask.sum()) for mask in visual), key, False)

    @classmethod
    def _of(
        cls,
        x: Sequence[Tensor],
        visual: Sequence[Tensor],
        n_visual: tuple[int, ...],
        key: Tensor | None,
        images_first: bool,
    ) -> "Rows":
        device, lengths = x[0].device, tuple(len(rows) for rows in x)
        return cls(
            x=torch.cat(list(x)).float(),
            visual=torch.cat(list(visual)),
            origin=torch.cat([torch.arange(total, device=device) for total in lengths]),
            size=torch.ones(sum(lengths), dtype=torch.int64, device=device),
            cu_seqlens=cumulate(lengths, device),
            lengths=lengths,
            n_visual=n_visual,
            n_image=n_visual,
            key=torch.zeros(len(lengths), dtype=torch.int64, device=device) if key is None else key,
            images_first=images_first,
        )

    @classmethod
    def cat(cls, parts: Sequence["Rows"]) -> "Rows":
        """The samples of several batches of one device, one batch after the other; all have the same companions."""
        tensors = ("x", "visual", "origin", "size", "key")
        counts = ("lengths", "n_visual", "n_image")
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in tensors}
        joined |= {name: tuple(n for part in parts for n in getattr(part, name)) for name in counts}
        return cls(
            **joined,
            cu_seqlens=cumulate(joined["lengths"], parts[0].x.device),
            images_first=all(part.images_first for part in parts),
            beside={name: torch.cat([part.beside[name] for part in parts]) for name in parts[0].beside},
        )

    def take(self, index: Int[Tensor, "K"], lengths: tuple[int, ...], n_visual: tuple[int, ...]) -> "Rows":
        """The same batch with fewer rows; companions go with them.

        Args:
            index: places in T of the rows that stay; ascending within a sample, because a recurrence depends on order.
            lengths, n_visual: how many of them each sample has, and how many of these are visual.
        """
        return replace(
            self,
            x=self.x[index],
            visual=self.visual[index],
            origin=self.origin[index],
            size=self.size[index],
            cu_seqlens=cumulate(lengths, self.x.device),
            lengths=lengths,
            n_visual=n_visual,
            beside={name: companion[index] for name, companion in self.beside.items()},
        )

    def repeat(self, samples: Int[Tensor, "Q"]) -> "Rows":
        """Q samples, the q-th of them a copy of sample `samples[q]`."""
        chosen = samples.tolist()
        index = torch.cat([torch.arange(*self.spans[b]) for b in chosen]).to(self.x.device)
        rows = self.take(index, tuple(self.lengths[b] for b in chosen), tuple(self.n_visual[b] for b in chosen))
        return replace(rows, n_image=tuple(self.n_image[b] for b in chosen), key=self.key[samples])

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Host (start, end) of each sample's rows."""
        ends = list(accumulate(self.lengths))
        return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []

    def visual_rows(self, b: int) -> Int[Tensor, "_"]:
        """Places in T of the live visual rows of sample b, ascending; nothing is read back from the device."""
        return self._ordered(b)[: self.n_visual[b]]

    def text_rows(self, b: int) -> Int[Tensor, "_"]:
        """Places in T of the other rows of sample b, ascending."""
        return self._ordered(b)[self.n_visual[b] :]

    def _ordered(self, b: int) -> Int[Tensor, "_"]:
        """All rows of sample b, the visual ones first."""
        start, end = self.spans[b]
        if self.images_first:
            return torch.arange(start, end, device=self.x.device)
        return start + torch.sort(~self.visual[start:end], stable=True).indices

    @property
    def text(self) -> Int[Tensor, "_"]:
        """Places in T of the text rows of all samples, ascending."""
        return torch.cat([self.text_rows(b) for b in range(len(self.lengths))])

    def runs(self, b: int) -> list[tuple[bool, int]]:
        """Sample b as (visual?, rows) of its alternating runs, the first of them visual (perhaps of no row)."""
        start, end = self.spans[b]
        if self.images_first:
            return [(True, self.n_visual[b]), (False, self.lengths[b] - self.n_visual[b])]
        found = [(True, 0)]
        for visual in self.visual[start:end].tolist():  # waits for a GPU
            if found[-1][0] == visual:
                found[-1] = (visual, found[-1][1] + 1)
            else:
                found.append((visual, 1))
        return found

    def with_x(self, x: Float[Tensor, "T d"]) -> "Rows":
        """The same rows with a new residual stream."""
        return replace(self, x=x)


def joined(old: Rows, new: Rows) -> Int[Tensor, "_"]:
    """How rows concatenated as [all of old; all of new] become each sample's old rows, then its new ones."""
    base, device = sum(old.lengths), new.x.device
    spans = [
        span for (a, b), (c, d) in zip(old.spans, new.spans, strict=True) for span in ((a, b), (base + c, base + d))
    ]
    return torch.cat([torch.arange(*span, device=device) for span in spans])


def join(old: Rows, new: Rows) -> Rows:
    """Earlier rows that waited, each sample's before its new ones."""
    index = joined(old, new)

    def rows(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second])[index]

    def companion(name: str, first: Tensor) -> Tensor:
        if name == GAP and name not in new.beside:  # no row was dropped after rows that no stage has seen
            return rows(first, first.new_zeros(len(new.x)))
        return rows(first, new.beside[name])

    lengths = tuple(a + b for a, b in zip(old.lengths, new.lengths, strict=True))
    return Rows(
        x=rows(old.x, new.x),
        visual=rows(old.visual, new.visual),
        origin=rows(old.origin, new.origin),
        size=rows(old.size, new.size),
        cu_seqlens=cumulate(lengths, new.x.device),
        lengths=lengths,
        n_visual=tuple(a + b for a, b in zip(old.n_visual, new.n_visual, strict=True)),
        n_image=tuple(a + b for a, b in zip(old.n_image, new.n_image, strict=True)),
        key=old.key,
        images_first=old.images_first and not any(new.n_visual),
        beside={name: companion(name, first) for name, first in old.beside.items()},
    )
