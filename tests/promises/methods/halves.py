"""Halves: the image loses the same share at each of two depths."""

from dataclasses import dataclass
from typing import ClassVar

from deltaprune.methods import registry
from deltaprune.scores.delta import Delta
from deltaprune.steps import Method, Shape, Stage


@registry.register("halves")
@dataclass(frozen=True)
class Halves(Method):
    """A share `keep` after a quarter of the layers, nothing after half of them. Source: a test."""

    paper: ClassVar[str] = "a test"

    keep: float = 0.5

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return (Stage(shape.n_layers // 4, self.keep, Delta()), Stage(shape.n_layers // 2, 0.0))
