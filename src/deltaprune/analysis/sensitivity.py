"""The divergence of the next token under DTP for each pair of an early and a late layer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from deltaprune.analysis.drift import next_token_js
from deltaprune.analysis.layers import Batch
from deltaprune.analysis.parts import Run, here, parts_of
from deltaprune.analysis.withdrawn import withdrawn_rows
from deltaprune.errors import UserError
from deltaprune.generate import NonFiniteLogits, overflowed
from deltaprune.kernels import without_autocast
from deltaprune.methods.dtp import DTP
from deltaprune.methods.none import NoPruning
from deltaprune.protocols import Block, State
from deltaprune.pruner import Pruner
from deltaprune.rows import Rows
from deltaprune.scores.delta import Delta
from deltaprune.steps import Score
from deltaprune.vlm import VLM
from deltaprune.walk import run_fully, walk, walk_through


@dataclass(frozen=True)
class Sensitivity:
    """What the pairs do, for E early and K late layers, both as DTP's fields count them.

    Attributes:
        early, late: the layers; a late one equal to the model's depth is no late stage.
        js: JS of the next token's distribution with and without pruning in nats, at most log 2, mean over samples;
            NaN where late <= early.
        same: samples whose likeliest next token stays the same, percent; NaN likewise.
        keep: the share kept between the two layers.
        samples: over how many.
    """

    early: tuple[int, ...]
    late: tuple[int, ...]
    js: Float64[np.ndarray, "E K"]
    same: Float64[np.ndarray, "E K"]
    keep: float
    samples: int


def sensitivity(
    vlm: VLM,
    inputs: Sequence[Batch],
    keep: float = 0.5,
    early: Sequence[int] | None = None,
    late: Sequence[int] | None = None,
    score: Score | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    run: Run = here,
) -> Sensitivity:
    """Measure every pair, whatever method is active; a late layer costs the text's rows alone.

    Args:
        vlm: the model.
        inputs: processor outputs; every row is a sample.
        keep: the share that the early stage keeps.
        early, late: the layers; all from 1 on if None, and for `late` the model's depth (no late stage) as well.
        score: ranks the tokens; Delta if None.
        on_progress: called with passes done and passes in all.
        run: where each batch is measured.

    Raises:
        UserError: no samples, a sample without an image, or a layer beyond the model.
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
    """
    depth = vlm.shape.n_layers
    early = tuple(range(1, depth) if early is None else early)
    late = tuple(range(2, depth + 1) if late is None else late)
    for name, layers, most in (("early", early, depth - 1), ("late", late, depth)):
        for k in layers:
            if not 1 <= k <= most:
                raise UserError(f"There is no {name} layer {k}: they are counted from 1 to {most} here.")
    if not inputs:
        raise UserError("There is nothing to measure: give at least one sample with an image.")
    work = partial(_of_batch, keep=keep, early=early, late=late, score=Delta() if score is None else score)

    def told(done: int) -> None:
        if on_progress is not None:
            on_progress(done, len(inputs) * len(early))

    parts = parts_of(vlm, work, inputs, run, told)
    js, same = (torch.cat([torch.stack([pair[i] for pair in batch]) for batch in parts], dim=2) for i in range(2))
    return Sensitivity(early, late, js.mean(2).numpy(), same.mean(2).numpy(), keep, js.shape[2])


def _of_batch(
    vlm: VLM, batch: Batch, keep: float, early: Sequence[int], late: Sequence[int], score: Score
) -> Iterator[tuple[Float64[Tensor, "K B"], Float64[Tensor, "K B"]]]:
    """What `_moved` gives, for each early layer."""
    with vlm.pruned_by(NoPruning()):
        tokens = vlm.pack(batch)
    if not all(tokens.n_visual):
        raise UserError("A sample has no image: give each one.")
    unpruned = _unpruned(vlm, tokens)
    for k in early:
        yield _moved(vlm, tokens, DTP(keep, k, None, score), k, late, unpruned)


@torch.no_grad()
@without_autocast
def _unpruned(vlm: VLM, tokens: Rows) -> Float[Tensor, "B V"]:
    """The next token's logits."""
    return vlm.model.lm.logits(_last(walk_through(vlm.model.lm, tokens, (), run_fully)[0]))


def _last(rows: Rows) -> Float[Tensor, "B d"]:
    """The last row of each sample."""
    return rows.x[rows.cu_seqlens[1:].long() - 1]


@torch.no_grad()
@without_autocast
def _moved(
    vlm: VLM, tokens: Rows, method: DTP, early: int, late: Sequence[int], unpruned: Float[Tensor, "B V"]
) -> tuple[Float64[Tensor, "K B"], Float64[Tensor, "K B"]]:
    """JS of each late layer and sample, and 100 where the token is the same, else 0; NaN where there is no pair."""
    lm, depth = vlm.model.lm, vlm.shape.n_layers
    words = [total - n for total, n in zip(tokens.lengths, tokens.n_visual, strict=True)]
    pruner, rows, text = Pruner(lm, method.checked_steps(vlm.shape)), tokens, {}

    def run(l: int, block: Block, entering: Rows, state: State | None) -> tuple[Rows, State] | None:
        if l in late and l > early:
            text[l] = entering.x[entering.text]
        return pruner(l, block, entering, state)

    for leaving, _ in walk(lm, tokens, (), run):
        rows = leaving
    ends = {k: torch.stack([each[-1] for each in found]) for k, found in withdrawn_rows(lm, text, words).items()}
    ends[depth] = _last(rows)
    js = torch.full((len(late), len(words)), torch.nan, dtype=torch.float64)
    same = js.clone()
    for i, k in enumerate(late):
        if k > early:
            logits = lm.logits(ends[k])
            js[i] = next_token_js(unpruned, logits).cpu()
            same[i] = 100.0 * (logits.argmax(-1) == unpruned.argmax(-1)).cpu()
            if not js[i].isfinite().all():
                raise NonFiniteLogits(overflowed(lm))
    return js, same
