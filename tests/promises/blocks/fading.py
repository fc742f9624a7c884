"""Fading: every channel is a gated running mean of the rows so far, added to the residual stream.

g_t = sigmoid(w . x_t), h_t = (1 - g_t) h_{t-1} + g_t V x_t, x_t <- x_t + O h_t, in plain torch, row by row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deltaprune.blocks import blocks, registry
from deltaprune.protocols import State
from deltaprune.rows import Rows
from deltaprune.trace import Trace


@registry.register("fading")
@dataclass(frozen=True)
class FadingState(State):
    """The running mean."""

    kind: ClassVar[str] = "fading"

    mean: Float[Tensor, "B d"]

    def tensors(self) -> Mapping[str, Tensor]:
        return {"mean": self.mean}


class FadingBlock(nn.Module):
    """One gate per row, one mean per channel."""

    offers: ClassVar[frozenset[str]] = frozenset({"step", "value", "output"})
    offers_writing: ClassVar[frozenset[str]] = frozenset({"step", "value"})

    def __init__(self, width: int):
        super().__init__()
        self.gate, self.value, self.out = (nn.Linear(width, n, bias=False) for n in (1, width, width))

    def empty_state(self, batch: int) -> FadingState:
        return FadingState(self.out.weight.new_zeros(batch, self.out.in_features))

    def prefill(
        self, rows: Rows, state: FadingState | None = None, needs: frozenset[str] = frozenset()
    ) -> tuple[Rows, FadingState, Trace]:
        gate, value = self.gate(rows.x).sigmoid(), self.value(rows.x)
        mean = list((self.empty_state(len(rows.lengths)) if state is None else state).mean)
        read = torch.empty_like(value)
        for b, (start, end) in enumerate(rows.spans):
            for t in range(start, end):
                mean[b] = torch.lerp(mean[b], value[t], gate[t])
                read[t] = mean[b]
        told = {"step": gate[:, 0], "value": value, "output": read}
        trace = Trace({role: tensor for role, tensor in told.items() if role in needs})
        return rows.with_x(rows.x + self.out(read)), FadingState(torch.stack(mean)), trace

    def write(
        self, rows: Rows, state: FadingState | None = None, needs: frozenset[str] = frozenset()
    ) -> tuple[Rows, FadingState, Trace]:
        ran, new, trace = self.prefill(rows, state, needs)
        return rows.with_x(torch.where(rows.visual[:, None], rows.x, ran.x)), new, trace

    def step(
        self, x: Float[Tensor, "B d"], state: FadingState, in_place: bool = False
    ) -> tuple[Float[Tensor, "B d"], FadingState]:
        mean = torch.lerp(state.mean, self.value(x), self.gate(x).sigmoid())
        return x + self.out(mean), FadingState(mean)

    def products(self, how: Literal["full", "write"] = "full") -> tuple[Float[Tensor, "n k"], ...]:
        written = self.gate.weight, self.value.weight
        return written if how == "write" else (*written, self.out.weight)

    def macs(self, how: Literal["full", "write"] = "full") -> Mapping[str, float]:
        width = self.out.in_features
        read = width**2 if how == "full" else 0
        return {"linear": width + width**2 + read, "scan": 2 * width}


@blocks.register("fading")
def random_block(width: int) -> FadingBlock:
    """A block with torch's initial weights."""
    return FadingBlock(width).eval().requires_grad_(False)
