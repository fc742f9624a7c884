"""What flows through the layers (`Rows`) and what a layer tells about itself on the way (`Trace`).

There is no padding anywhere: the live tokens of a batch stand one after the other (packed), and lengths are known to
the host, so that no stage ever waits for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deltaprune.trace import Trace, map_rows


def on_device(numbers: Sequence[int], device: torch.device | str, dtype: torch.dtype = torch.int64) -> Int[Tensor, "_"]:
    """Host integers as a tensor; a GPU is handed them without being waited for, which pinned memory allows.

    A CUDA graph would read that memory again at every replay, when it holds something else: while one is captured, the
    numbers travel as arguments of kernels instead.
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
    """The live tokens of a batch of B samples, packed into T rows.

    Attributes:
        x: the residual stream, float32 (`hidden + residual` of the original code; pruning it prunes both).
        visual: whether a row is a visual token.
        origin: a row's index in its sample's unpruned sequence; ascends within a sample.
        size: how many original tokens a row stands for (1 unless merged).
        cu_seqlens: int32 boundaries of the samples on the device.
        lengths: the same as host integers.
        n_visual: live visual rows per sample (host).
        n_image: visual rows per sample before any pruning (host): what `keep` is a share of.
        key: a seed per sample from its image's content, so that random choices do not depend on the batch.
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

    @classmethod
    def pack(
        cls,
        image: list[Float[Tensor, "_ d"]],
        text: list[Float[Tensor, "_ d"]],
        key: Int[Tensor, "B"] | None = None,
    ) -> "Rows":
        """Each sample is its image rows, then its text rows (either may be empty), as in Cobra and RoboMamba."""
        device = text[0].device
        n_image = tuple(len(rows) for rows in image)
        lengths = tuple(len(v) + len(t) for v, t in zip(image, text, strict=True))
        visual = [torch.arange(total, device=device) < n for n, total in zip(n_image, lengths, strict=True)]
        return cls(
            x=torch.cat([rows for pair in zip(image, text, strict=True) for rows in pair]).float(),
            visual=torch.cat(visual),
            origin=torch.cat([torch.arange(total, device=device) for total in lengths]),
            size=torch.ones(sum(lengths), dtype=torch.int64, device=device),
            cu_seqlens=cumulate(lengths, device),
            lengths=lengths,
            n_visual=n_image,
            n_image=n_image,
            key=torch.zeros(len(lengths), dtype=torch.int64, device=device) if key is None else key,
        )

    def take(self, index: Int[Tensor, "K"], lengths: tuple[int, ...], n_visual: tuple[int, ...]) -> "Rows":
        """Keep the rows `index` (ascending within each sample: Mamba is a recurrence and order is meaning)."""
        return replace(
            self,
            x=self.x[index],
            visual=self.visual[index],
            origin=self.origin[index],
            size=self.size[index],
            cu_seqlens=cumulate(lengths, self.x.device),
            lengths=lengths,
            n_visual=n_visual,
        )

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Host (start, end) of each sample's rows."""
        ends = list(accumulate(self.lengths))
        return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []

    def with_x(self, x: Float[Tensor, "T d"]) -> "Rows":
        """The same rows with a new residual stream."""
        return replace(self, x=x)


def join(old: Rows, old_trace: Trace, new: Rows, new_trace: Trace) -> tuple[Rows, Trace]:
    """Earlier rows that waited, each sample's before its new ones, with their traces."""
    base = sum(old.lengths)
    index = torch.cat(
        [
            torch.arange(*span, device=new.x.device)
            for (a, b), (c, d) in zip(old.spans, new.spans, strict=True)
            for span in ((a, b), (base + c, base + d))
        ]
    )

    def rows(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second])[index]

    lengths = tuple(a + b for a, b in zip(old.lengths, new.lengths, strict=True))
    joined = Rows(
        x=rows(old.x, new.x),
        visual=rows(old.visual, new.visual),
        origin=rows(old.origin, new.origin),
        size=rows(old.size, new.size),
        cu_seqlens=cumulate(lengths, new.x.device),
        lengths=lengths,
        n_visual=tuple(a + b for a, b in zip(old.n_visual, new.n_visual, strict=True)),
        n_image=tuple(a + b for a, b in zip(old.n_image, new.n_image, strict=True)),
        key=old.key,
    )
    return joined, map_rows(rows, old_trace, new_trace)
