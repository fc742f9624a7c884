"""The one loop in which models and pruning meet: layers x stages -> `Prefilled`.

    tokens -> layer 0 -> ... -> layer k-1 -> [stage after=k: score, keep, take] -> layer k -> ... -> Prefilled

A `Prefilled` can be continued: text after an image, a second turn after a first. If a stage's choice depends on text,
the image alone can only be run up to it; the `Prefilled` then stands at that depth and each question pays the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deltaprune.blocks.mamba1 import State
from deltaprune.cuda_graphs.prefills import run_or_replay
from deltaprune.errors import NotFinite
from deltaprune.kernels import reuse, without_autocast
from deltaprune.mllm.lm import MambaLM
from deltaprune.rows import Rows, join, on_device
from deltaprune.scoring import importance
from deltaprune.steps import Stage, check_order, select
from deltaprune.trace import Trace, map_rows

MOST_ROWS, MOST_SAMPLES = 1024, 32  # beyond them a GPU computes for longer than launching takes, or holds large states


class NonFiniteScore(NotFinite):
    """A score was NaN or infinite: the model's weights or activations overflowed."""


Check = tuple[int, str, Bool[Tensor, ""]]  # after how many layers, the score, whether all it gave was finite


@dataclass(frozen=True)
class Kept:
    """What one stage left: for each sample, the original indices of its visual rows."""

    after: int
    origin: tuple[Int[Tensor, "_"], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Visual tokens left per sample."""
        return tuple(len(rows) for rows in self.origin)


@dataclass(frozen=True)
class Prefilled:
    """The state of a model after some rows.

    Attributes:
        hidden: residual stream of each sample's last row, after layer `depth - 1`, float32.
        states: one per layer run.
        tokens: the surviving rows (those that enter layer `depth` when that is not the last).
        kept: what each stage left.
        depth: how many layers have run; the model's depth unless a stage has to wait for text.
        trace: what the waiting stage will read of the rows here.
        seen: rows per sample before any pruning: where a continuation's `origin` goes on.
        checks: device flags "all that this score gave after k layers was finite", read together with the first token.
        replayed: whether a CUDA graph was replayed for it.
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

    def repeat(self, index: Int[Tensor, "Q"]) -> "Prefilled":
        """One row per question: row q continues sample `index[q]` of this one."""
        rows = index.tolist()
        take = torch.cat([torch.arange(*self.tokens.spans[b]) for b in rows]).to(index.device)
        lengths = tuple(self.tokens.lengths[b] for b in rows)
        tokens = self.tokens.take(take, lengths, tuple(self.tokens.n_visual[b] for b in rows))
        tokens = replace(tokens, n_image=tuple(self.tokens.n_image[b] for b in rows), key=self.tokens.key[index])
        return replace(
            self,
            hidden=self.hidden[index],
            states=tuple(State(ssm=s.ssm[index], conv=s.conv[index]) for s in self.states),
            tokens=tokens,
            kept=tuple(Kept(k.after, tuple(k.origin[b] for b in rows)) for k in self.kept),
            trace=map_rows(lambda rows: rows[take], self.trace),
            seen=tuple(self.seen[b] for b in rows),
        )


@torch.no_grad()
@without_autocast
@reuse()
def prefill(
    model: MambaLM,
    tokens: Rows,
    stages: tuple[Stage, ...] = (),
    resume: Prefilled | None = None,
    awaits_text: bool = False,
    graphed: bool | None = None,
) -> Prefilled:
    """Run `tokens` through all layers, pruning on the way.

    On a GPU, up to 1024 rows of 32 samples whose lengths have come before replay a CUDA graph: see `mamba.replays`.

    Args:
        model: the LM.
        tokens: packed rows entering layer 0; with `resume`, what follows the rows already seen.
        stages: the method's stages, `after` ascending.
        resume: the same batch's earlier rows.
        awaits_text: these rows are images alone: stop at the first stage whose choice depends on text.
        graphed: True asks for a CUDA graph, at once and whatever the size; False forbids it.

    Raises:
        UserError: stages out of order or beyond the model; a graph is asked for and cannot be had.
        NonFiniteScore: at once on a CPU; on a GPU from `Prefilled.checked`.
    """
    check_order(stages, len(model.layers))
    seen, states, waiting, kept, checks = tokens.lengths, (), None, (), ()
    if resume is not None:
        tokens, seen = _continue(tokens, resume)
        states, kept, checks = resume.states, resume.kept, resume.checks
        waiting = (resume.tokens, resume.trace) if resume.depth < len(model.layers) else None
    rows = sum(tokens.lengths) + sum(waiting[0].lengths if waiting else ())
    if graphed is None and (rows > MOST_ROWS or len(seen) > MOST_SAMPLES):
        graphed = False
    competes = any(stage.candidates == "all" for stage in stages)
    refused = "where text competes, how many visual tokens won has to be read back" if competes else None
    run, inputs = partial(_run, model, stages, awaits_text), (tokens, states, waiting)
    done, replayed = run_or_replay(model, run, inputs, (stages, awaits_text), graphed, refused)
    return replace(done, kept=kept + done.kept, checks=checks + done.checks, seen=seen, replayed=replayed)


def _run(
    model: MambaLM,
    stages: tuple[Stage, ...],
    awaits_text: bool,
    tokens: Rows,
    before: tuple[State, ...],
    waiting: tuple[Rows, Trace] | None,
) -> Prefilled:
    """The loop; `before`: states of the layers that earlier rows have run, `waiting`: those of them that go on here."""
    due = {stage.after: stage for stage in stages}
    kept, checks, states, trace, layers = [], [], [], Trace(hidden=tokens.x), model.layers

    def prefilled(depth: int, trace: Trace) -> Prefilled:
        rows, found = _last_rows(tokens), tuple(checks)
        return Prefilled(rows, tuple(states), tokens, tuple(kept), depth, trace, tokens.lengths, found)

    for l, layer in enumerate(layers):
        if waiting is not None and l == len(before):
            tokens, trace = join(*waiting, tokens, trace)
        stage = due.get(l)
        if stage is not None and awaits_text and stage.sees_text:
            return prefilled(l, trace)
        if stage is not None and any(tokens.n_image):
            tokens = _apply(stage, tokens, trace, checks)
            kept.append(Kept(l, tuple(tokens.origin[a : a + n] for (a, _), n in _visual_rows(tokens))))
        following = due.get(l + 1)
        needs = frozenset() if following is None or following.score is None else following.score.needs
        state = before[l] if l < len(before) else None
        x, state, trace = layer.prefill(tokens.x, tokens.cu_seqlens, state, needs)
        trace = replace(trace, hidden=model.norm_f(x)) if "hidden" in needs else trace
        tokens = tokens.with_x(x)
        states.append(state)
    return prefilled(len(layers), Trace())


def _apply(stage: Stage, tokens: Rows, trace: Trace, checks: list[Check]) -> Rows:
    """One stage: score, check, select, reduce. A choice of everything or nothing needs no score."""
    scores = None
    if stage.score is not None and 0 < stage.keep < 1 and len(tokens.x) > 0:
        scores = importance(stage.score, stage.score.needs, tokens, trace, stage.after)
        checks.append((stage.after, repr(stage.score), torch.isfinite(scores).all()))
        if scores.device.type == "cpu":
            raise_if_not_finite(checks)
            checks.clear()
    return stage.reduce(tokens, select(stage, scores, tokens))


def raise_if_not_finite(checks: Sequence[Check]) -> None:
    """Read the flags; a score that was not finite is an error that names it and the layer."""
    for after, score, finite in checks:
        if not finite.item():
            raise NonFiniteScore(
                f"The token scores of {score}, read after layer {after}, are not finite (NaN or infinite): the score, "
                "the weights or the activations up to that layer are broken."
            )


def _continue(tokens: Rows, resume: Prefilled) -> tuple[Rows, tuple[int, ...]]:
    """Rows that follow earlier ones: their origin goes on counting, their key is the earlier rows' key."""
    offset, lengths = on_device(resume.seen, tokens.x.device), on_device(tokens.lengths, tokens.x.device)
    origin = tokens.origin + torch.repeat_interleave(offset, lengths, output_size=sum(tokens.lengths))
    seen = tuple(a + b for a, b in zip(resume.seen, tokens.lengths, strict=True))
    return replace(tokens, origin=origin, key=resume.tokens.key), seen


def _visual_rows(tokens: Rows) -> list[tuple[tuple[int, int], int]]:
    """Each sample's span and its number of visual rows, which stand first."""
    return list(zip(tokens.spans, tokens.n_visual, strict=True))


def _last_rows(tokens: Rows) -> Float[Tensor, "B d"]:
    """Each sample's last row; zeros for a sample with no rows left (an image alone, after complete pruning)."""
    ends = tokens.cu_seqlens[1:].long() - 1
    if all(tokens.lengths):
        return tokens.x[ends]
    some = on_device([b for b, length in enumerate(tokens.lengths) if length], tokens.x.device)
    return tokens.x.new_zeros(len(ends), tokens.x.shape[-1]).index_copy_(0, some, tokens.x[ends[some]])
