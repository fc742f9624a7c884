"""Applies a method's steps: before each layer it takes the rows that reach the layer and returns those that continue.

A `Pruner` runs each layer of our own models. A model that runs its layers itself calls `enter` before a layer and
`tell` after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from deltaprune.errors import NotFinite, UserError
from deltaprune.mean_states import SUFFIX, MeanStates
from deltaprune.protocols import Block, Layers, State
from deltaprune.readers import HIDDEN, readers
from deltaprune.rows import Rows, join, joined, on_device
from deltaprune.scoring import importance
from deltaprune.steps import Stage, Step, means_of, passes_of, stages_of
from deltaprune.trace import Trace

Check = tuple[int, str, Bool[Tensor, ""]]  # after how many layers, the score, whether all its numbers were finite


class NonFiniteScore(NotFinite):
    """A score was NaN or infinite: the model's weights or activations overflowed."""


@dataclass(frozen=True)
class Kept:
    """What one stage left.

    Attributes:
        after: how many layers had run.
        origin: for each sample, the original indices of its visual rows.
        read: how many layers had run when the trace that its score reads was made; `after`, unless the last layers
            before the stage do not provide the roles. None if no score was used.
    """

    after: int
    origin: tuple[Int[Tensor, "_"], ...]
    read: int | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """Visual tokens left per sample."""
        return tuple(len(rows) for rows in self.origin)


class Pruner:
    """A method's steps applied to one batch.

    Args:
        model: the LM, of which only the layers' `offers` and the final norm are used.
        steps: the method's.
        awaits_text: the rows are images alone: stop at the first stage whose choice depends on text.
        waiting: earlier rows that join these from layer `depth` on, and their trace.

    Attributes:
        kept: what each stage left, so far.
        checks: for each score, whether all its numbers were finite, on the device.
        stopped: the rows and their trace at a stage that has to wait for text; None where none does.
    """

    def __init__(
        self,
        model: Layers,
        steps: Sequence[Step],
        awaits_text: bool = False,
        waiting: tuple[Rows, Trace] | None = None,
        depth: int = 0,
    ):
        self.model, self.awaits_text, self.waiting, self.depth = model, awaits_text, waiting, depth
        self.stages = {stage.after: stage for stage in stages_of(steps)}
        self.passes, self.means = passes_of(steps), means_of(steps)
        self.reads = readers(model.blocks, steps)
        self.told: dict[int, Trace] = {}
        self.kept: list[Kept] = []
        self.checks: list[Check] = []
        self.stopped: tuple[Rows, Trace] | None = None

    def __call__(self, l: int, block: Block, rows: Rows, state: State | None) -> tuple[Rows, State] | None:
        """Layer l with the stage before it, as `walk` runs it."""
        entering = self.enter(l, rows)
        if entering is None:
            return None
        how, needs = self.passes.get(l), self.needs(l)
        if how == "mean":
            state = with_mean(l, block, entering, state, self.means[l])
        if how in ("skip", "mean"):
            return without_image(block, entering, state)
        run = block.write if how == "write" else block.prefill
        rows, new, trace = run(entering, state, needs)
        self.tell(l, trace)
        return rows, new

    def enter(self, l: int, rows: Rows) -> Rows | None:
        """The rows that enter layer l; None where a stage has to wait for text."""
        if self.waiting is not None and l == self.depth:
            rows = self._joined(l, rows, *self.waiting)
        stage = self.stages.get(l)
        if stage is None:
            return rows
        if self.awaits_text and stage.sees_text:
            self.stopped = rows, self.told.get(l, Trace())
            return None
        return self._apply(stage, rows) if any(rows.n_image) else rows

    def needs(self, l: int) -> frozenset[str]:
        """The roles that layer l has to fill."""
        scores = [self.stages[after].score for after, teller in self.reads.items() if teller == l]
        asked = [score.needs | (score.also & self.model.blocks[l].offers) for score in scores if score is not None]
        return frozenset().union(*asked) - HIDDEN

    def tell(self, l: int, trace: Trace) -> None:
        """Keep layer l's trace for the stages that read it; it is copied for later stages, see `kernels.reuse`."""
        for after, teller in self.reads.items():
            if teller == l:
                self.told[after] = trace if after == l + 1 else trace.map(torch.clone)

    def _joined(self, l: int, rows: Rows, earlier: Rows, known: Trace) -> Rows:
        """Rows that waited before layer l, each sample's before its new ones; the traces of both are joined, too."""
        if l in self.told:
            index = joined(earlier, rows)
            self.told[l] = known.join(self.told[l], lambda first, second: torch.cat([first, second])[index])
        return join(earlier, rows)

    def _apply(self, stage: Stage, rows: Rows) -> Rows:
        """One stage: score, check, select, reduce. A choice of everything or nothing needs no score."""
        scores, score, after = None, stage.score, stage.after
        if score is not None and 0 < stage.keep < 1 and len(rows.x) > 0:
            trace = self.told.get(after, Trace())
            if "hidden" in score.needs:
                trace = trace.told(hidden=self.model.norm(rows.x) if after else rows.x)
            scores = importance(score, score.needs | score.also, rows, trace, after)
            self._check(after, repr(score), scores)
        chosen = stage.reduce.choose(stage, scores, rows)
        self.told = {due: trace.map(lambda told: told[chosen.rows]) for due, trace in self.told.items() if due > after}
        rows = stage.reduce(rows, chosen)
        origin = tuple(rows.origin[rows.visual_rows(b)] for b in range(len(rows.lengths)))
        teller = self.reads.get(after)
        self.kept.append(Kept(after, origin, None if scores is None else after if teller is None else teller + 1))
        return rows

    def _check(self, after: int, score: str, scores: Tensor) -> None:
        """Remember whether the scores are finite; on a CPU, raise at once if they are not."""
        self.checks.append((after, score, torch.isfinite(scores).all()))
        if scores.device.type == "cpu":
            raise_if_not_finite(self.checks)
            self.checks.clear()


def without_image(block: Block, rows: Rows, state: State | None) -> tuple[Rows, State]:
    """Run the text rows alone through a block; the visual rows go on as they are."""
    if not any(rows.n_visual):
        rows, new, _ = block.prefill(rows, state, frozenset())
        return rows, new
    text, none = rows.text, (0,) * len(rows.lengths)
    words = tuple(total - n for total, n in zip(rows.lengths, rows.n_visual, strict=True))
    x = rows.x.clone()  # the layer may reuse its memory, see `kernels.reuse`
    run, new, _ = block.prefill(rows.take(text, words, none), state, frozenset())
    return rows.with_x(x.index_copy_(0, text, run.x)), new


def with_mean(l: int, block: Block, rows: Rows, state: State | None, means: MeanStates) -> State | None:
    """The state of layer l before these rows: the mean one for samples whose image enters here.

    Raises:
        UserError: the mean states were not read, or text comes before an image.
    """
    if not any(rows.n_image):
        return state
    if l not in means.layers:
        raise UserError(f"The mean states of layer {l} were not read: calibrate again, or restore the plan's {SUFFIX}.")
    if state is not None or not rows.images_first:
        raise UserError('Pass(how="mean") needs the image before all text: ask with one image, before its text.')
    empty = block.empty_state(len(rows.lengths))
    seen = on_device([int(n > 0) for n in rows.n_image], rows.x.device).bool()
    mixed = {}
    for name, nothing in empty.tensors().items():
        mean = means.layers[l][name].to(nothing)
        mixed[name] = torch.where(seen.reshape(-1, *[1] * mean.dim()), mean, nothing)
    return type(empty)(**mixed)


def raise_if_not_finite(checks: Sequence[Check]) -> None:
    """Read the flags; a score that was not finite is an error that names it and the layer."""
    for after, score, finite in checks:
        if not finite.item():
            raise NonFiniteScore(
                f"The token scores of {score}, read after layer {after}, are not finite (NaN or infinite): the score, "
                "the weights or the activations up to that layer are broken."
            )
