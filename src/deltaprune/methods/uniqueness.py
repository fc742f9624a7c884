"""Uniqueness as a method: one early cut that keeps what is unlike the rest of the image."""

from dataclasses import dataclass
from typing import ClassVar

from deltaprune.checks import check_keep, check_layer
from deltaprune.methods import registry
from deltaprune.scores.uniqueness import Uniqueness
from deltaprune.steps import Method, Shape, Stage


@registry.register("uniqueness")
@dataclass(frozen=True)
class UniquenessPruning(Method):
    """Keep the tokens that are least like the image as a whole, after layer `after`: `Uniqueness` in one stage.

    Attributes:
        keep: share that is kept.
        after: layers that see all tokens.
    """

    paper: ClassVar[str] = "ours, a control for DART (arXiv 2502.11494)"

    keep: float = 0.5
    after: int = 1

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_layer("after", self.after)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return (Stage(after=self.after, keep=self.keep, score=Uniqueness()),)
