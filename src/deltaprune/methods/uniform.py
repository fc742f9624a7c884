"""DTP's two stages with an even spread over the image: the other control for the score."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from deltaprune.checks import check_keep, check_layer
from deltaprune.methods import registry
from deltaprune.methods.dtp import DTP
from deltaprune.scores.uniform import Uniform
from deltaprune.steps import Method, Shape, Stage


@registry.register("uniform")
@dataclass(frozen=True)
class UniformPruning(Method):
    """`DTP` with `score=Uniform()`; keep, early and late as there."""

    paper: ClassVar[str] = "ours: the other control for the score"

    keep: float = 0.5
    early: int | Literal["plan"] = "plan"
    late: int | Literal["plan"] | None = "plan"

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_layer("early", self.early, "plan")
        check_layer("late", self.late, "plan", None)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return DTP(self.keep, self.early, self.late, score=Uniform()).steps(shape)
