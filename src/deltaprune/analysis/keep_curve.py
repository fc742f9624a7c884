"""DTP at several shares kept: the divergence of the next token, and the spread of the scores after pruning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from deltaprune.analysis.drift import next_token_js
from deltaprune.analysis.layers import Batch
from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.errors import UserError
from deltaprune.kernels import without_autocast
from deltaprune.methods.dtp import DTP
from deltaprune.methods.none import NoPruning
from deltaprune.protocols import Block, State
from deltaprune.pruner import Pruner
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.steps import Step
from deltaprune.vlm import VLM
from deltaprune.walk import walk


@dataclass(frozen=True)
class KeepCurve:
    """For each of R shares and L layers.

    Attributes:
        keep: the shares.
        js: JS of the next token's distribution with and without pruning in nats, at most log 2, mean over samples.
        same: samples whose likeliest next token stays the same, percent.
        std: eq. 7 of the visual tokens that are left in each layer, mean over samples, in Delta's unit; NaN where none
            is left. `std[:, k - 1]` is the layer that a `Stage(after=k)` would read.
        full: the same without pruning.
        samples: over how many.
    """

    keep: tuple[float, ...]
    js: Float64[np.ndarray, "R"]
    same: Float64[np.ndarray, "R"]
    std: Float64[np.ndarray, "R L"]
    full: Float64[np.ndarray, "L"]
    samples: int


def keep_curve(vlm: VLM, inputs: Sequence[Batch], methods: Sequence[DTP], run: Run = here) -> KeepCurve:
    """Measure DTP at several shares, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor outputs; every row is a sample.
        methods: DTP at each share.
        run: where each batch is measured.

    Raises:
        UserError: no samples, a sample without an image, or a method that does not fit the model.
        NonFiniteScore: the weights or activations overflowed.
    """
    if not inputs:
        raise UserError("There is nothing to measure: give at least one sample with an image.")
    steps = [method.checked_steps(vlm.shape) for method in methods]
    parts = [part for (part,) in parts_of(vlm, partial(_of_batch, steps=steps), inputs, run)]
    js, same, std = (torch.cat([part[i] for part in parts], dim=-1) for i in range(3))
    spread = std.mean(-1).numpy()
    keep = tuple(method.keep for method in methods)
    return KeepCurve(keep, js.mean(1).numpy(), 100 * same.double().mean(1).numpy(), spread[1:], spread[0], js.shape[1])


def _of_batch(vlm: VLM, batch: Batch, steps: Sequence[tuple[Step, ...]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """JS and equality `(R, B)`, and the spread `(1 + R, L, B)`, first without pruning."""
    with vlm.pruned_by(NoPruning()):
        tokens = vlm.pack(batch)
    if not all(tokens.n_visual):
        raise UserError("A sample has no image: give each one.")
    logits, stds = zip(*(_run(vlm, tokens, each) for each in ((), *steps)), strict=True)
    js = [next_token_js(logits[0], moved) for moved in logits[1:]]
    same = [logits[0].argmax(-1) == moved.argmax(-1) for moved in logits[1:]]
    yield torch.stack(js).cpu(), torch.stack(same).cpu(), torch.stack(stds)


@torch.no_grad()
@without_autocast
def _run(vlm: VLM, tokens: Rows, steps: tuple[Step, ...]) -> tuple[Tensor, Tensor]:
    """The next token's logits, and the spread of Delta over the visual tokens in each layer `(L, B)`."""
    lm, score, spread, rows = vlm.model.lm, Delta(), [], tokens
    pruner = Pruner(lm, steps)

    def run(l: int, block: Block, entering: Rows, state: State | None) -> tuple[Rows, State] | None:
        live = pruner.enter(l, entering)
        assert live is not None
        leaving, new, trace = block.prefill(live, state, pruner.needs(l) | score.needs)
        pruner.tell(l, trace)
        scores = score(leaving, trace)
        visual = [scores[leaving.visual_rows(b)].double() for b in range(len(leaving.lengths))]
        spread.append([each.std(correction=0) if len(each) else each.new_full((), torch.nan) for each in visual])
        return leaving, new

    for leaving, _ in walk(lm, tokens, (), run):
        rows = leaving
    std = torch.stack([torch.stack(layer) for layer in spread]).cpu()
    return lm.logits(rows.x[rows.cu_seqlens[1:].long() - 1]), std
