"""No pruning: the baseline of every table."""

from dataclasses import dataclass

from deltaprune.methods import registry
from deltaprune.steps import Method, Shape, Stage


@registry.register("none")
@dataclass(frozen=True)
class NoPruning(Method):
    """Every layer sees every token."""

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        return ()
