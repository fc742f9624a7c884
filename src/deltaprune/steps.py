"""Stage, Score, Method: a method is a short list of stages.

A stage says: after how many layers, which share of the image is kept, by which score. Every rule for counting and
choosing kept tokens lives in this file and nowhere else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.active import Prunable as Prunable
from deltaprune.active import check_prunable, switched
from deltaprune.checks import check_candidates, check_keep, check_layer
from deltaprune.errors import UserError
from deltaprune.plan import Plan as Plan
from deltaprune.plan import Shape as Shape
from deltaprune.rows import Rows
from deltaprune.scoring import check_needs
from deltaprune.trace import Trace

CountRule = Callable[[float, int], int]


def floor_count(keep: float, n_image: int) -> int:
    """How many of `n_image` visual tokens a share `keep` leaves: floor(keep * n + 1e-6), the paper's count."""
    return floor(keep * n_image + 1e-6)


def round_count(keep: float, n_image: int) -> int:
    """DivPrune's count, int(round(keep * n)) with Python's rounding: a half goes to the even number."""
    return round(keep * n_image)


DART_PIVOTS = 4  # of the image, and as many of the text


def dart_quota(keep: float, n_image: int, exact: bool = False) -> int:
    """How many tokens each of DART's 8 pivots adds: floor(keep * n / 8) in its code; `exact`: enough for the budget."""
    if exact:
        return max(0, ceil((floor_count(keep, n_image) - DART_PIVOTS) / (2 * DART_PIVOTS)))
    return floor_count(keep / (2 * DART_PIVOTS), n_image)


def dart_count(keep: float, n_image: int) -> int:
    """DART's official count, the image's pivots and what all 8 add: 4 + 8 * floor(keep * n / 8); 0 and 1 stay exact."""
    if keep in (0, 1):
        return floor_count(keep, n_image)
    return min(n_image, DART_PIVOTS + 2 * DART_PIVOTS * dart_quota(keep, n_image))


class Score(ABC):
    """Token importance. Subclasses are frozen dataclasses, one file each in `scores/`; higher is kept.

    What a score gives, and that it reads nothing but its `needs`, is checked each time, see `importance`.

    Class attributes:
        paper: where it comes from, as `deltaprune methods` prints it.
    """

    paper: ClassVar[str] = ""

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """The `Trace` fields that are read; an empty set lets the fused kernel run as it is."""

    @property
    @abstractmethod
    def sees_text(self) -> bool:
        """Whether a visual token's score depends on the question (then an image prefix must stop before it)."""

    @abstractmethod
    def __call__(self, tokens: Rows, trace: Trace) -> Float[Tensor, "T"]:
        """Importance of every live row, float32."""


class Reduce(ABC):
    """What becomes of the rows that are not kept."""

    @abstractmethod
    def __call__(self, tokens: Rows, kept: "Selection") -> Rows:
        """Rows with only the kept rows left."""


@dataclass(frozen=True)
class Drop(Reduce):
    """The rows that are not kept leave the sequence; what they wrote into earlier layers' states stays."""

    def __call__(self, tokens: Rows, kept: "Selection") -> Rows:
        return tokens.take(kept.rows, kept.lengths, kept.n_visual)


@dataclass(frozen=True)
class Stage:
    """Keep a share of the image after some layers.

    Attributes:
        after: how many layers see all tokens that reach this stage: the layers with 0-based index < `after` have
            run, and the score reads the trace of the last of them. `after=0` acts on the LM's input.
        keep: share of the ORIGINAL visual tokens that is left (the paper's r), in [0, 1].
        score: ranks the candidates; needed unless `keep` is 0 or 1.
        candidates: "visual", or "all" to let text compete too (Table 4); then count + n_text rows survive, always
            with each sample's last row among them.
        reduce: `Drop()`, or `Merge(...)`, which folds each dropped visual row into a kept one.
        count: the rule from share to tokens: `floor_count`, `round_count`, `dart_count`.
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
            check_needs(self.score, self.score.needs)
        if self.after == 0 and self.score is not None and self.score.needs - {"hidden"}:
            raise UserError(f"Stage(after=0) acts before any layer, where {self.score!r} has nothing to read.")

    @property
    def sees_text(self) -> bool:
        """Whether which image rows survive depends on the question."""
        return self.score is not None and (self.candidates == "all" or self.score.sees_text)

    def counts(self, n_image: tuple[int, ...], n_visual: tuple[int, ...]) -> tuple[int, ...]:
        """Visual tokens left in each sample; never more than are still there."""
        return tuple(min(self.count(self.keep, total), live) for total, live in zip(n_image, n_visual, strict=True))


def check_order(stages: tuple[Stage, ...], n_layers: int) -> None:
    """Stages ascend strictly and lie within the model, else a `UserError` names the first that does not."""
    for stage in stages:
        if stage.after >= n_layers:
            raise UserError(
                f"A stage after layer {stage.after} lies beyond the model: `after` is at most {n_layers - 1} for "
                f"{n_layers} layers."
            )
    for first, second in pairwise(stages):
        if first.after >= second.after:
            raise UserError(f"Stages must ascend, but after={second.after} follows after={first.after}.")


class Selection(NamedTuple):
    """Who survives a stage.

    Attributes:
        rows: the rows that are kept, ascending.
        lengths, n_visual: how many rows and visual rows each sample has left.
        ranked: each sample's visual rows, best first; the first `n_visual` of them are kept.
    """

    rows: Tensor
    lengths: tuple[int, ...]
    n_visual: tuple[int, ...]
    ranked: tuple[Tensor, ...]


def select(stage: Stage, scores: Float[Tensor, "T"] | None, tokens: Rows) -> Selection:
    """Choose the survivors: float32 scores, the highest are kept, ties go to the lower index.

    With visual candidates every text row survives, and only host integers decide shapes, so nothing waits for the
    device. When text competes (an ablation), how many visual rows won has to be read back.
    """
    counts = stage.counts(tokens.n_image, tokens.n_visual)
    kept, lengths, n_visual, ranked = [], [], [], []
    for (start, end), live, count in zip(tokens.spans, tokens.n_visual, counts, strict=True):
        visual = tokens.visual[start:end]
        row = torch.zeros(end - start, device=visual.device) if scores is None else scores[start:end].float()
        if stage.candidates == "visual":
            row = torch.where(visual, row, torch.inf)
        elif end > start:
            row = torch.cat([row[:-1], row.new_full((1,), torch.inf)])
        n_text = end - start - live
        order = torch.sort(row, descending=True, stable=True).indices
        survivors = torch.sort(order[: count + n_text]).values
        kept.append(survivors + start)
        lengths.append(count + n_text)
        if stage.candidates == "visual":
            best_first, left = order[n_text:], count
        else:
            best_first, left = order[visual[order]], int(visual[survivors].sum())
        ranked.append(best_first + start)
        n_visual.append(left)
    return Selection(torch.cat(kept), tuple(lengths), tuple(n_visual), tuple(ranked))


class Method(ABC):
    """A pruning method. Subclasses are frozen dataclasses, one file each in `methods/`.

    The fields are the paper's hyper-parameters and the `repr` is a run's identity. `with method(vlm):` switches it on
    and off again on exit, also after an exception; nothing is patched. It is on in this thread, or asyncio task, alone:
    other threads that use the same model are left as they are.

    Class attributes:
        paper: where it comes from, as `deltaprune methods` prints it.
    """

    paper: ClassVar[str] = ""

    @abstractmethod
    def stages(self, shape: Shape) -> tuple[Stage, ...]:
        """The stages on a model of this shape."""

    def checked_stages(self, shape: Shape) -> tuple[Stage, ...]:
        """`stages`, with their order and range checked against the model."""
        stages = self.stages(shape)
        check_order(stages, shape.n_layers)
        return stages

    @contextmanager
    def __call__(self, model: Prunable) -> Iterator[None]:
        check_prunable(model, self)
        if model.method is not None:
            raise UserError(f"{model.method!r} is already on: methods do not nest; leave its `with` block first.")
        self.checked_stages(model.shape)
        with switched(model, self):
            yield
