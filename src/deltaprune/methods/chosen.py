"""Chosen by hand: the visual tokens that the user names are dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from deltaprune.checks import check_layer
from deltaprune.errors import UserError
from deltaprune.methods import registry
from deltaprune.methods._layers import numbers_of
from deltaprune.scores.chosen import Chosen
from deltaprune.steps import Method, Shape, Stage


@dataclass(frozen=True)
class Unlisted:
    """A count rule: what is left of an image, whatever its size, when the listed tokens are gone."""

    drop: tuple[int, ...]

    def __call__(self, keep: float, n_image: int) -> int:
        return n_image - sum(j < n_image for j in self.drop)


@registry.register("chosen")
@dataclass(frozen=True)
class ChosenPruning(Method):
    """Drop the named patches, by default before the first layer, so that the LM never sees them.

    Attributes:
        drop: patches counted from 0, row by row: a list, or a text such as "0-15+33"; None or an empty list prunes
            nothing.
        after: how many layers see all tokens.
    """

    paper: ClassVar[str] = "ours: the user's own choice"

    drop: str | int | Sequence[int] | None = None
    after: int = 0

    def __post_init__(self) -> None:
        check_layer("after", self.after)
        object.__setattr__(self, "drop", self._patches())

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        drop = self._patches()
        if not drop:
            return ()
        if drop[-1] >= shape.n_visual:
            raise UserError(
                f"There is no patch {drop[-1]}: a picture has {shape.n_visual}, numbered 0 to {shape.n_visual - 1}."
            )
        left = shape.n_visual - len(drop)
        return (Stage(self.after, left / shape.n_visual, Chosen(drop) if left else None, count=Unlisted(drop)),)

    def _patches(self) -> tuple[int, ...]:
        return () if self.drop is None else numbers_of("drop", self.drop, "patches")
