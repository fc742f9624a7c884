"""How packed rows lie in the rectangle `(B, W, ...)` that transformers' layers are handed: pads on the left."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """B samples side by side.

    Attributes:
        lengths: rows of each sample (host).
        width: columns of the rectangle, at least the longest sample's.
        flat: where each packed row is in the flattened rectangle, `(T,)`; None where there are no pads.
        valid: which places hold a row, `(B, W)`; None where all do.
    """

    lengths: tuple[int, ...]
    width: int
    flat: Int[Tensor, "T"] | None
    valid: Bool[Tensor, "B W"] | None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device, width: int | None = None) -> "Layout":
        """Samples of these lengths; the width is the longest one's unless told. Nothing is read from the device."""
        width = max(lengths) if width is None else width
        if all(length == width for length in lengths):
            return cls(tuple(lengths), width, None, None)
        ends = [(b + 1) * width for b in range(len(lengths))]
        spans = [torch.arange(end - n, end, device=device) for end, n in zip(ends, lengths, strict=True)]
        first = torch.tensor([width - n for n in lengths]).to(device, non_blocking=True)
        valid = torch.arange(width, device=device) >= first[:, None]
        return cls(tuple(lengths), width, torch.cat(spans), valid)

    def pack(self, x: Tensor) -> Tensor:
        """`(B, W, ...)` -> `(T, ...)`, pads left out."""
        x = x.flatten(0, 1)
        return x if self.flat is None else x[self.flat]

    def unpack(self, x: Tensor) -> Tensor:
        """`(T, ...)` -> `(B, W, ...)`, pads zero."""
        batch = len(self.lengths)
        if self.flat is not None:
            x = x.new_zeros(batch * self.width, *x.shape[1:]).index_copy(0, self.flat, x)
        return x.unflatten(0, (batch, self.width))
