"""Freeze: every visual row stays, but most layers no longer update it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from deltaprune.checks import check_keep, check_layer
from deltaprune.counting import share_of_steps
from deltaprune.errors import UserError
from deltaprune.methods import registry
from deltaprune.methods._layers import layers_of
from deltaprune.methods._ranking import Ranking
from deltaprune.plan import Change
from deltaprune.scores.uniqueness import Uniqueness
from deltaprune.steps import Pass, Score, Shape, Stage, Step

BUDGET = 0.6
Layers = str | int | Sequence[int] | None  # "1-14+17" as a text
How = Literal["write", "skip"]


@registry.register("freeze")
@dataclass(frozen=True)
class Freeze(Ranking):
    """Visual rows write the states of most layers but are updated in few; which, is found by calibration.

    A row moves little from layer to layer, and an answer reads the image from the states alone. So in a frozen layer
    visual rows are not updated: they only write its state ("write", about .4 of the layer's MACs), or the layer does
    not see them ("skip"). In the last layer a write is free: nobody reads the image rows behind it.

    `deltaprune calibrate --budget` finds the order in which layers are frozen: again and again the change that moves
    the answers least per MAC saved (see `calibrate.freezing`). It is kept in the model's plan. Without one, layers
    write from the last to the second, in this order, until the budget is met.

    Attributes:
        budget: share of the LM prefill's MACs that may be used, for an image and a short question. Where neither it
            nor layers are given, 0.6 or as near to it as freezing alone comes.
        write, skip: explicit layers in place of a budget, counted from 0: a list, or a text such as "1-14+17".
        keep: drop visual rows as well: the share kept after `early` layers; 1 keeps all.
        early: for `keep`; "plan" takes the early layer of the model's plan.
        score: for `keep`, what ranks the rows.

    Which rows survive and what is written does not depend on the question, so image prefixes hold. Prior art: ShortV
    (arXiv 2504.00502) freezes visual tokens in ineffective layers of transformers and keeps their keys and values;
    bypass in SwiftVLM (2602.03134). New here: the recurrent form, and layers chosen by the model's own answers.
    """

    paper: ClassVar[str] = "ours; after ShortV (arXiv 2504.00502)"

    budget: float | None = None
    write: Layers = None
    skip: Layers = None
    keep: float = 1.0
    early: int | Literal["plan"] = "plan"
    score: Score | str = field(default_factory=Uniqueness)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keep(self.keep)
        check_layer("early", self.early, "plan")
        if self.budget is not None and not (isinstance(self.budget, int | float) and 0 < self.budget <= 1):
            raise UserError(f"budget={self.budget!r} must be a share of the MACs, above 0 and at most 1, such as 0.6.")
        if self.budget is not None and (self.write is not None or self.skip is not None):
            raise UserError("Freeze takes a budget or explicit layers (write=, skip=), not both.")
        for name in ("write", "skip"):
            layers = getattr(self, name)
            object.__setattr__(self, name, None if layers is None else layers_of(name, layers))

    def steps(self, shape: Shape) -> tuple[Step, ...]:
        stages = self._stages(shape)
        if self.write is not None or self.skip is not None:
            chosen = {"write": self.write, "skip": self.skip}
            return (*stages, *(Pass(layers, how) for how, layers in chosen.items() if layers))  # pyright: ignore
        budget = BUDGET if self.budget is None else self.budget
        hows: dict[int, How] = {}
        changes = iter(order_of(shape))
        while (share := share_of_steps((*stages, *passes(hows)), shape)) > budget:
            change = next(changes, None)
            if change is None:
                if self.budget is None:
                    break
                raise self._unreachable(budget, share, shape)
            hows[change.layer] = change.how
        return (*stages, *passes(hows))

    def _stages(self, shape: Shape) -> tuple[Stage, ...]:
        if self.keep == 1:
            return ()
        early = shape.layer(self.early, "early")
        assert early is not None
        return (Stage(early, self.keep, self.ranks),)

    def _unreachable(self, budget: float, share: float, shape: Shape) -> UserError:
        how = (
            "in the order of its plan"
            if shape.plan is not None and shape.plan.freezing
            else "without a calibrated order"
        )
        return UserError(
            f"budget={budget} cannot be met by freezing {how}, which ends at {share:.3f} of the MACs: give at least "
            f"{share:.3f}, a keep below {self.keep:g}, or run deltaprune calibrate --budget {budget}."
        )


def order_of(shape: Shape) -> tuple[Change, ...]:
    """The plan's order, else a write in every layer but the first, the last one first."""
    if shape.plan is not None and shape.plan.freezing:
        return shape.plan.freezing
    return tuple(Change(l, "write", 0.0) for l in range(shape.n_layers - 1, 0, -1))


def passes(hows: Mapping[int, How]) -> tuple[Pass, ...]:
    """Layer -> how, as steps."""
    by_how: dict[How, list[int]] = {"write": [], "skip": []}
    for l, how in hows.items():
        by_how[how].append(l)
    return tuple(Pass(layers, how) for how, layers in by_how.items() if layers)
