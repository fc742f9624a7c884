"""Freeze: every visual row stays, but most layers no longer update it."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from deltaprune.checks import check_keep, check_layer
from deltaprune.counting import rounded_up, share_of_steps
from deltaprune.errors import UserError
from deltaprune.mean_states import MeanStates
from deltaprune.methods import registry
from deltaprune.methods._layers import layers_of
from deltaprune.methods._ranking import Ranking
from deltaprune.plan import Change, How
from deltaprune.scores.uniqueness import Uniqueness
from deltaprune.steps import Pass, Score, Shape, Stage, Step

BUDGET = 0.6
Layers = str | int | Sequence[int] | None  # "1-14+17" as a text


@registry.register("freeze")
@dataclass(frozen=True)
class Freeze(Ranking):
    """Visual rows write the states of most layers but are updated in few; calibration finds which.

    A row moves little from layer to layer, and an answer reads the image from the states alone. So in a frozen layer
    visual rows are not updated: they only write its state ("write", about .4 of the layer's MACs), or the layer does
    not see them and its state is that of an average image ("mean") or of none ("skip"). In the last layer a write is
    free: nothing reads the image rows after it.

    `deltaprune calibrate --budget` finds the order in which layers are frozen: each step makes the change that moves
    the answers least per MAC saved (see `calibrate.freezing`). The model's plan holds it. Without one, layers write
    from the last to the second, in this order, until the budget is met.

    Attributes:
        budget: share of the LM prefill's MACs that may be used, for an image and a short question. If neither it nor
            layers are given, 0.6; where freezing alone cannot reach that, the lowest share that it reaches.
        write, mean, skip: explicit layers in place of a budget, counted from 0: a list, or a text such as "1-14+17".
        keep: the share of visual rows that is kept after `early` layers; 1 keeps all. With "plan", calibration has
            found for the nearest budget how many layers are frozen, and as many rows are kept as the budget then
            allows; without a calibration, or with explicit layers, all are kept.
        early: after how many layers rows are dropped; "plan" goes with `keep`, and is 1 without a calibration.
        score: what ranks the rows.

    Which rows survive and what is written does not depend on the question, so an image prefix serves every question.

    Source: ours. Prior art: ShortV (arXiv 2504.00502) freezes visual tokens in ineffective layers of transformers and
    keeps their keys and values; SwiftVLM (arXiv 2602.03134) lets tokens bypass layers. New here: the recurrent form,
    and layers chosen by the model's own answers.
    """

    paper: ClassVar[str] = "ours; after ShortV (arXiv 2504.00502)"

    budget: float | None = None
    write: Layers = None
    mean: Layers = None
    skip: Layers = None
    keep: float | Literal["plan"] = "plan"
    early: int | Literal["plan"] = "plan"
    score: Score | str = field(default_factory=Uniqueness)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep != "plan":
            check_keep(self.keep)
        check_layer("early", self.early, "plan")
        if self.budget is not None and not (isinstance(self.budget, int | float) and 0 < self.budget <= 1):
            raise UserError(f"budget={self.budget!r} must be a share of the MACs, above 0 and at most 1, such as 0.6.")
        if self.budget is not None and any(getattr(self, how) is not None for how in get_args(How)):
            raise UserError("Freeze takes a budget or explicit layers (write=, mean=, skip=), not both.")
        for name in get_args(How):
            layers = getattr(self, name)
            object.__setattr__(self, name, None if layers is None else layers_of(name, layers))

    def steps(self, shape: Shape) -> tuple[Step, ...]:
        budget = BUDGET if self.budget is None else self.budget
        means = None if shape.plan is None else shape.plan.means
        if any(getattr(self, how) is not None for how in get_args(How)):
            chosen: dict[How, Sequence[int]] = {how: getattr(self, how) or () for how in get_args(How)}
            check_once(chosen)
            return (*self._stages(1, 1), *passes({l: how for how, layers in chosen.items() for l in layers}, means))
        return self._combined(shape, budget) or self._frozen(shape, budget)

    def _combined(self, shape: Shape, budget: float) -> tuple[Step, ...] | None:
        """As the plan says for the nearest budget; None where it does not, or where every row can be kept."""
        if self.keep != "plan" or shape.plan is None or not shape.plan.thinning:
            return None
        best = min(shape.plan.thinning, key=lambda each: abs(each.budget - budget))
        frozen = passes({change.layer: change.how for change in shape.plan.freezing[: best.changes]}, shape.plan.means)

        def stages(rows: int) -> tuple[Stage, ...]:
            return self._stages(rows / shape.n_visual, best.early)

        def within(rows: int) -> bool:
            return share_of_steps((*stages(rows), *frozen), shape) <= budget

        rows = bisect_left(range(1, shape.n_visual + 1), True, key=lambda rows: not within(rows))
        return (*stages(rows), *frozen) if 0 < rows < shape.n_visual else None

    def _frozen(self, shape: Shape, budget: float) -> tuple[Step, ...]:
        """As many changes of the order as the budget asks for."""
        stages, means = self._stages(1, 1), None if shape.plan is None else shape.plan.means
        hows: dict[int, How] = {}
        changes = iter(order_of(shape))
        while (share := share_of_steps((*stages, *passes(hows, means)), shape)) > budget:
            change = next(changes, None)
            if change is None:
                if self.budget is None:
                    break
                raise self._unreachable(budget, share, shape)
            hows[change.layer] = change.how
        return (*stages, *passes(hows, means))

    def _stages(self, keep: float, early: int) -> tuple[Stage, ...]:
        """The stage that drops rows, if any: from the fields, or from these arguments where a field is "plan"."""
        keep = keep if self.keep == "plan" else self.keep
        early = early if self.early == "plan" else self.early
        return () if keep == 1 else (Stage(early, keep, self.ranks),)

    def _unreachable(self, budget: float, share: float, shape: Shape) -> UserError:
        how = (
            "in the order of its plan"
            if shape.plan is not None and shape.plan.freezing
            else "without a calibrated order"
        )
        return UserError(
            f"budget={budget} cannot be met by freezing {how}, which ends at {share:.3f} of the MACs: give at least "
            f"{rounded_up(share)}, a smaller keep, or run deltaprune calibrate --budget {budget}."
        )


def check_once(chosen: Mapping[How, Sequence[int]]) -> None:
    """A layer is passed by in one way, else a `UserError`."""
    layers = [l for each in chosen.values() for l in each]
    if len(set(layers)) < len(layers):
        twice = min(l for l, times in Counter(layers).items() if times > 1)
        raise UserError(f"Layer {twice} is given twice: write=, mean= and skip= name different layers.")


def order_of(shape: Shape) -> tuple[Change, ...]:
    """The plan's order, else a write in every layer but the first, the last one first."""
    if shape.plan is not None and shape.plan.freezing:
        return shape.plan.freezing
    return tuple(Change(l, "write", 0.0) for l in range(shape.n_layers - 1, 0, -1))


def passes(hows: Mapping[int, How], means: MeanStates | None = None) -> tuple[Pass, ...]:
    """Layer -> how, as steps; `means` are those of the layers at "mean"."""
    by_how: dict[How, list[int]] = {how: [] for how in get_args(How)}
    for l, how in hows.items():
        by_how[how].append(l)
    if by_how["mean"] and means is None:
        raise UserError("There are no mean states in the model's plan: calibrate --budget finds them, or use skip.")
    return tuple(Pass(layers, how, means if how == "mean" else None) for how, layers in by_how.items() if layers)
