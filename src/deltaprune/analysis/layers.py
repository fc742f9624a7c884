"""The unpruned pass that measurements read: layer by layer, the rows and the trace that a score would get there.

Layers are named as stages name them: `after=k` is the place after the first k layers, where a `Stage(after=k)` reads
the trace of the layer with 0-based index k - 1 (the paper's "15th layer" is after=15).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from deltaprune.errors import UserError
from deltaprune.protocols import Block, State
from deltaprune.readers import HIDDEN
from deltaprune.rows import Rows
from deltaprune.trace import Trace
from deltaprune.vlm import VLM
from deltaprune.walk import walk

Batch = Mapping[str, Tensor]


def batches(inputs: Batch | Iterable[Batch]) -> Iterator[Batch]:
    """One processor output, or several, as several."""
    if isinstance(inputs, Mapping):
        yield cast(Batch, inputs)
    else:
        yield from inputs


def check_layers(after: Sequence[int], n_layers: int) -> None:
    """Check that the layers exist in the model, else a `UserError`."""
    for k in after:
        if not 1 <= k <= n_layers:
            nearest = min(max(k, 1), n_layers)
            raise UserError(f"There is no layer {k}: they are counted from 1 to {n_layers} (try {nearest}).")


@torch.no_grad()
def traces(
    vlm: VLM, tokens: Rows, needs: frozenset[str], after: Sequence[int] | None = None
) -> Iterator[tuple[int, Rows, Trace]]:
    """Run packed tokens without pruning, whatever method is active.

    Args:
        vlm: the model.
        tokens: what enters layer 0.
        needs: the roles of the `Trace` to fill.
        after: the places to yield; all layers if None. The pass ends with the last of them.

    Yields:
        For each place, in ascending order: how many layers have run, the tokens after them, the last one's trace.

    Raises:
        UserError: a place beyond the model.
    """
    lm = vlm.model.lm
    wanted = range(1, len(lm.blocks) + 1) if after is None else after
    check_layers(wanted, len(lm.blocks))
    last, told = max(wanted, default=0), Trace()

    def run(l: int, block: Block, rows: Rows, state: State | None) -> tuple[Rows, State] | None:
        nonlocal told
        if l == last:
            return None
        rows, new, told = block.prefill(rows, state, needs - HIDDEN if l + 1 in wanted else frozenset())
        return rows, new

    for k, (rows, _) in enumerate(walk(lm, tokens, (), run), start=1):
        if k in wanted:
            yield k, rows, told.told(hidden=lm.norm(rows.x)) if "hidden" in needs else told
