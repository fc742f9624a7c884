"""Stage, Pass, Shrink, Method: a method is a short list of steps.

A stage says after how many layers which share of the image is kept, by which score. A pass says in which layers visual
rows are not updated. A shrink makes the picture smaller before the vision towers see it. Scores and reductions are in
`choosing.py`, the rules for counting and choosing rows in `selection.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, get_args

from deltaprune.active import Prunable as Prunable
from deltaprune.active import opened, switched
from deltaprune.checks import check_at_least_one, check_candidates, check_choice, check_keep, check_layer
from deltaprune.choosing import Drop as Drop
from deltaprune.choosing import Reduce as Reduce
from deltaprune.choosing import Score as Score
from deltaprune.errors import UserError
from deltaprune.mean_states import MeanStates
from deltaprune.plan import How as How
from deltaprune.plan import Plan as Plan
from deltaprune.plan import Shape as Shape
from deltaprune.scoring import check_score
from deltaprune.selection import CountRule, floor_count


@dataclass(frozen=True)
class Stage:
    """Keep a share of the image after some layers.

    Attributes:
        after: how many layers see all tokens that reach this stage: the layers with 0-based index < `after` have
            run, and the score reads the trace of the last of them that fills the roles it needs. `after=0` acts on
            the LM's input.
        keep: share of the ORIGINAL visual tokens that is left (the paper's r), in [0, 1].
        score: ranks the candidates; needed unless `keep` is 0 or 1.
        candidates: "visual", or "all" to let text compete too (Table 4); then count + n_text rows survive, always
            with each sample's last row among them.
        reduce: `Drop()`, or `Merge(...)`, which folds each dropped visual row into a kept one.
        count: (share, visual tokens of the image) -> tokens that are left; `floor_count` unless a method has its own
            rule.

    Raises:
        UserError: an impossible field, no score to choose by, or with `after=0` a score that reads a layer.
    """

    after: int
    keep: float
    score: Score | None = None
    candidates: Literal["visual", "all"] = "visual"
    reduce: Reduce = field(default_factory=Drop)
    count: CountRule = floor_count

    def __post_init__(self) -> None:
        check_layer("after", self.after)
        check_keep(self.keep)
        if self.score is None and 0 < self.keep < 1:
            raise UserError(f"Stage(after={self.after}, keep={self.keep}) needs a score to choose by, such as Delta().")
        if self.score is not None and not isinstance(self.score, Score):
            raise UserError(f"score={self.score!r} is not a score: Stage takes an object such as Delta().")
        check_candidates(self.candidates)
        if self.score is not None:
            check_score(self.score)
        if self.after == 0 and self.score is not None and self.score.needs - {"hidden"}:
            raise UserError(f"Stage(after=0) acts before any layer, where {self.score!r} has nothing to read.")

    @property
    def sees_text(self) -> bool:
        """Whether which image rows survive depends on the question."""
        return self.score is not None and (self.candidates == "all" or self.score.sees_text)

    def counts(self, n_image: tuple[int, ...], n_visual: tuple[int, ...]) -> tuple[int, ...]:
        """Visual tokens left in each sample; never more than are still there."""
        return tuple(min(self.count(self.keep, total), live) for total, live in zip(n_image, n_visual, strict=True))


@dataclass(frozen=True)
class Pass:
    """In these layers visual rows are not updated; they enter the next layer unchanged.

    Text rows run as usual. In the last layer "write" changes no logit, since the image rows after it are not read.

    Attributes:
        layers: 0-based indices; kept as an ascending tuple.
        how: "write": visual rows still write the layer's state (or keys and values), but nothing else is computed;
            "skip": the layer does not see them, and its state is as if they were absent;
            "mean": the layer does not see them, and its state starts from the mean state after an image. Images have to
            come before all text then.
        means: for "mean", those states; `calibrate` finds them and stores them next to the plan.

    Raises:
        UserError: layers that are not whole numbers from 0 up, or means that are missing or not asked for.
    """

    layers: Sequence[int]
    how: How
    means: MeanStates | None = None

    def __post_init__(self) -> None:
        check_choice("how", self.how, get_args(How))
        layers: Any = self.layers
        if isinstance(layers, int) or not all(isinstance(l, int) and not isinstance(l, bool) for l in layers):
            raise UserError(f"layers={layers!r} must be a list of layer numbers, counted from 0, such as (1, 2, 3).")
        if any(l < 0 for l in layers):
            raise UserError(f"layers={tuple(layers)} holds {min(layers)}: layers are counted from 0.")
        object.__setattr__(self, "layers", tuple(sorted(set(layers))))
        if (self.how == "mean") != (self.means is not None):
            raise UserError(
                'Pass(how="mean") needs means=, the states that calibrate found, and no other pass has any.'
            )
        if self.means is not None and self.means.layers and (lacking := set(self.layers) - self.means.layers.keys()):
            have = ", ".join(map(str, sorted(self.means.layers)))
            raise UserError(f"There are no mean states of layer {min(lacking)}: the plan has those of {have}.")


@dataclass(frozen=True)
class Shrink:
    """The picture is made smaller before the vision towers: the LM gets fewer visual tokens, and the towers run less.

    It acts on pixels, so it works where a model gets pictures (`generate`, `start`, `encode_image`, `ask`, `evaluate`,
    `bench`) and has no effect where packed rows are run, as in `prefill`. The `keep` of a stage is then a share of the
    small picture's tokens.

    Attributes:
        side: patches along each side of the small picture, so side * side visual tokens; at most as many as the towers'
            own picture has.

    Raises:
        UserError: `side` is not a whole number from 1 up.
    """

    side: int

    def __post_init__(self) -> None:
        check_at_least_one("side", self.side)


Step = Stage | Pass | Shrink


def stages_of(steps: Sequence[Step]) -> tuple[Stage, ...]:
    """The stages among the steps, in order."""
    return tuple(step for step in steps if isinstance(step, Stage))


def passes_of(steps: Sequence[Step]) -> dict[int, How]:
    """Layer -> how it treats visual rows, for the layers that have a pass."""
    return {l: step.how for step in steps if isinstance(step, Pass) for l in step.layers}


def means_of(steps: Sequence[Step]) -> dict[int, MeanStates]:
    """Layer -> the mean states it begins with, for the layers that have them."""
    return {l: step.means for step in steps if isinstance(step, Pass) and step.means is not None for l in step.layers}


def side_of(steps: Sequence[Step]) -> int | None:
    """Patches along each side of the picture that the towers are given; None for the towers' own size."""
    return next((step.side for step in steps if isinstance(step, Shrink)), None)


def seen_by_towers(steps: Sequence[Step], shape: Shape) -> Shape:
    """The shape with as many visual tokens as the towers give under these steps."""
    side = side_of(steps)
    return shape if side is None else replace(shape, n_visual=side**2)


def check_steps(steps: Sequence[Step], n_layers: int) -> None:
    """Stages ascend strictly, a layer is in at most one pass, all lie within the model, and the picture is shrunk at
    most once, else a `UserError`."""
    if sum(isinstance(step, Shrink) for step in steps) > 1:
        raise UserError("The picture is shrunk twice: give one Shrink.")
    stages, passed = stages_of(steps), [l for step in steps if isinstance(step, Pass) for l in step.layers]
    for l in passed:
        if l >= n_layers:
            raise UserError(f"There is no layer {l} for a pass: the model's layers are 0 to {n_layers - 1}.")
        if passed.count(l) > 1:
            raise UserError(f"Layer {l} is in two passes: a layer can be in one only.")
    for stage in stages:
        if stage.after >= n_layers:
            raise UserError(
                f"A stage after layer {stage.after} lies beyond the model: `after` is at most {n_layers - 1} for "
                f"{n_layers} layers."
            )
    for first, second in pairwise(stages):
        if first.after >= second.after:
            raise UserError(f"Stages must ascend, but after={second.after} follows after={first.after}.")


class Method(ABC):
    """A pruning method. Subclasses are frozen dataclasses, one file each in `methods/`.

    The fields are the paper's hyper-parameters and the `repr` is a run's identity. An impossible field is a `UserError`
    when the object is made; a field that does not fit a model is one when the method is switched on for it.

    `with method(vlm):` activates it and deactivates it on exit, also after an exception; nothing is patched. It is
    active in this thread or asyncio task only: other threads that use the same model are not affected. A transformers
    model has hooks within the block, see `inplace.attach`; with `with method(model) as pruned`, `pruned.kept` is what
    was kept.

    Class attributes:
        paper: where it comes from, as `deltaprune methods` prints it.
    """

    paper: ClassVar[str] = ""

    @abstractmethod
    def steps(self, shape: Shape) -> "tuple[Step, ...]":
        """What it does on a model of this shape: stages, `after` ascending, passes and a shrink, in any order.

        Raises:
            UserError: it asks for a plan, a layer or a budget that this model does not have.
        """

    def checked_steps(self, shape: Shape) -> "tuple[Step, ...]":
        """`steps`, with their order and range checked against the model.

        Raises:
            UserError: as `steps`; or stages out of order, layers beyond the model, or a layer in two passes.
        """
        steps = self.steps(shape)
        check_steps(steps, shape.n_layers)
        side = side_of(steps)
        if side is not None and side**2 > shape.n_visual:
            raise UserError(
                f"Shrink(side={side}) would give {side**2} visual tokens and the model has {shape.n_visual}: a picture "
                "is only made smaller."
            )
        return steps

    @contextmanager
    def __call__(self, model: Any) -> Iterator[Any]:
        with opened(model, self) as pruned:
            if pruned.method is not None:
                raise UserError(f"{pruned.method!r} is already on: methods do not nest; leave its `with` block first.")
            self.checked_steps(pruned.shape)
            with switched(pruned, self):
                yield pruned
