"""DTP's two stages with a random choice: the control for the score."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from deltaprune.checks import check_keep, check_layer, check_seed
from deltaprune.methods import registry
from deltaprune.methods.dtp import DTP
from deltaprune.scores.random import Random
from deltaprune.steps import Method, Shape, Stage


@registry.register("random")
@dataclass(frozen=True)
class RandomPruning(Method):
    """`DTP` with `score=Random(seed)` (first row of Table 4).

    Attributes:
        keep, early, late: as in `DTP`.
        seed: another seed, another choice.
    """

    paper: ClassVar[str] = "DTP, Table 4, first row: the control for the score"

    keep: float = 0.5
    early: int | Literal["plan"] = "plan"
    late: int | Literal["plan"] | None = "plan"
    seed: int = 0

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_layer("early", self.early, "plan")
        check_layer("late", self.late, "plan", None)
        check_seed(self.seed)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return DTP(self.keep, self.early, self.late, score=Random(self.seed)).steps(shape)
