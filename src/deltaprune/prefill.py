"""Run a prompt through a model under a method: the result is a `Prefilled`.

    rows -> layer 0 -> ... -> layer k-1 -> [stage after=k: score, keep, take] -> layer k -> ... -> Prefilled

A `Prefilled` can be continued: text after an image, a second turn after a first. If a stage's choice depends on text,
the image alone can only be run up to that stage; the `Prefilled` then ends at that depth, and each question runs the
remaining layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.cuda_graphs.prefills import run_or_replay
from deltaprune.kernels import reuse, without_autocast
from deltaprune.protocols import Model, State
from deltaprune.pruner import Check, Kept, NonFiniteScore, Pruner, raise_if_not_finite
from deltaprune.rows import Rows, on_device
from deltaprune.steps import Step, check_steps, stages_of
from deltaprune.trace import Trace
from deltaprune.walk import walk_through

__all__ = ["Kept", "NonFiniteScore", "Prefilled", "prefill", "raise_if_not_finite"]

MOST_ROWS, MOST_SAMPLES = 1024, 32  # beyond these, computing takes longer than launching, and states are large


@dataclass(frozen=True)
class Prefilled:
    """The state of a model after some rows.

    Attributes:
        hidden: residual stream of each sample's last row, after layer `depth - 1`, float32.
        states: one per layer run.
        tokens: the surviving rows (those that enter layer `depth` when that is not the last).
        kept: what each stage left.
        depth: how many layers have run; the model's depth unless a stage has to wait for text.
        trace: what a stage that waits for text will read of these rows.
        seen: rows per sample before any pruning, from which a continuation's `origin` counts on.
        checks: device flags, one per score: whether all its numbers were finite; read together with the first token.
        replayed: whether it was computed by replaying a CUDA graph.
    """

    hidden: Float[Tensor, "B d"]
    states: tuple[State, ...]
    tokens: Rows
    kept: tuple[Kept, ...]
    depth: int
    trace: Trace
    seen: tuple[int, ...]
    checks: tuple[Check, ...] = ()
    replayed: bool = False

    def checked(self) -> "Prefilled":
        """Read the device flags, see `raise_if_not_finite`."""
        raise_if_not_finite(self.checks)
        return replace(self, checks=())

    @classmethod
    def cat(cls, parts: Sequence["Prefilled"]) -> "Prefilled":
        """The samples of several batches that one method has pruned, one batch after the other.

        Raises:
            ValueError: they end at different depths or stages.
        """
        first = parts[0]
        stages = [(part.depth, [(kept.after, kept.read) for kept in part.kept]) for part in parts]
        if any(each != stages[0] for each in stages):
            raise ValueError(f"Prefilled.cat: (depth, stages) differ, so the methods did: {stages}.")
        roles = {role: torch.cat([part.trace.rows[role] for part in parts]) for role in first.trace.rows}
        return replace(
            first,
            hidden=torch.cat([part.hidden for part in parts]),
            states=tuple(type(layer[0]).cat(layer) for layer in zip(*(part.states for part in parts), strict=True)),
            tokens=Rows.cat([part.tokens for part in parts]),
            kept=tuple(
                replace(same[0], origin=tuple(rows for kept in same for rows in kept.origin))
                for same in zip(*(part.kept for part in parts), strict=True)
            ),
            trace=Trace(roles, first.trace.layer),
            seen=tuple(n for part in parts for n in part.seen),
            checks=tuple(check for part in parts for check in part.checks),
        )

    def repeat(self, index: Int[Tensor, "Q"]) -> "Prefilled":
        """One row per question: row q continues sample `index[q]` of this one."""
        chosen = index.tolist()
        take = torch.cat([torch.arange(*self.tokens.spans[b]) for b in chosen]).to(index.device)
        return replace(
            self,
            hidden=self.hidden[index],
            states=tuple(state.take(index) for state in self.states),
            tokens=self.tokens.repeat(index),
            kept=tuple(replace(kept, origin=tuple(kept.origin[b] for b in chosen)) for kept in self.kept),
            trace=self.trace.map(lambda rows: rows[take]),
            seen=tuple(self.seen[b] for b in chosen),
        )


@torch.no_grad()
@without_autocast
@reuse()
def prefill(
    model: Model,
    tokens: Rows,
    steps: tuple[Step, ...] = (),
    resume: Prefilled | None = None,
    awaits_text: bool = False,
    graphed: bool | None = None,
) -> Prefilled:
    """Run `tokens` through all layers, pruning on the way.

    On a GPU a CUDA graph is replayed for up to 1024 rows of 32 samples whose lengths have occurred before, see
    `cuda_graphs.prefills`.

    Args:
        model: the LM.
        tokens: packed rows entering layer 0; with `resume`, what follows the rows already seen.
        steps: the method's, its stages with `after` ascending.
        resume: the same batch's earlier rows.
        awaits_text: these rows are images alone: stop at the first stage whose choice depends on text.
        graphed: True requires a CUDA graph, at once and for any size; False forbids it.

    Raises:
        UserError: steps out of order or beyond the model, a score for which no layer provides the roles, or a required
            graph that is not possible.
        NonFiniteScore: at once on a CPU; on a GPU from `Prefilled.checked`.
    """
    check_steps(steps, len(model.blocks))
    seen, states, waiting, kept, checks = tokens.lengths, (), None, (), ()
    if resume is not None:
        tokens, seen = _continue(tokens, resume)
        states, kept, checks = resume.states, resume.kept, resume.checks
        waiting = (resume.tokens, resume.trace) if resume.depth < len(model.blocks) else None
    rows = sum(tokens.lengths) + sum(waiting[0].lengths if waiting else ())
    if graphed is None and (rows > MOST_ROWS or len(seen) > MOST_SAMPLES):
        graphed = False
    competes = any(stage.candidates == "all" for stage in stages_of(steps))
    refused = "where text competes, how many visual tokens won has to be read back" if competes else None
    run, inputs = partial(_run, model, steps, awaits_text), (tokens, states, waiting)
    done, replayed = run_or_replay(model, run, inputs, (steps, awaits_text), graphed, refused)
    return replace(done, kept=kept + done.kept, checks=checks + done.checks, seen=seen, replayed=replayed)


def _run(
    model: Model,
    steps: tuple[Step, ...],
    awaits_text: bool,
    rows: Rows,
    before: tuple[State, ...],
    waiting: tuple[Rows, Trace] | None,
) -> Prefilled:
    """`before`: states of the layers that earlier rows have run, `waiting`: those of them that go on here."""
    pruner = Pruner(model, steps, awaits_text, waiting, len(before))
    rows, states = walk_through(model, rows, before, pruner)
    rows, trace = pruner.stopped or (rows, Trace())
    kept, checks = tuple(pruner.kept), tuple(pruner.checks)
    return Prefilled(_last_rows(rows), tuple(states), rows, kept, len(states), trace, rows.lengths, checks)


def _continue(tokens: Rows, resume: Prefilled) -> tuple[Rows, tuple[int, ...]]:
    """Rows that follow earlier ones: their origin goes on counting, their key is the earlier rows' key."""
    offset, lengths = on_device(resume.seen, tokens.x.device), on_device(tokens.lengths, tokens.x.device)
    origin = tokens.origin + torch.repeat_interleave(offset, lengths, output_size=sum(tokens.lengths))
    seen = tuple(a + b for a, b in zip(resume.seen, tokens.lengths, strict=True))
    return replace(tokens, origin=origin, key=resume.tokens.key), seen


def _last_rows(tokens: Rows) -> Float[Tensor, "B d"]:
    """Each sample's last row; zeros for a sample with no rows left (an image alone, after complete pruning)."""
    ends = tokens.cu_seqlens[1:].long() - 1
    if all(tokens.lengths):
        return tokens.x[ends]
    some = on_device([b for b, length in enumerate(tokens.lengths) if length], tokens.x.device)
    return tokens.x.new_zeros(len(ends), tokens.x.shape[-1]).index_copy_(0, some, tokens.x[ends[some]])
