"""Score and Reduce: what ranks the rows that reach a stage, and what happens to those that are not kept."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Float
from torch import Tensor

from deltaprune.rows import Rows
from deltaprune.selection import Selection, select
from deltaprune.trace import Trace

if TYPE_CHECKING:
    from deltaprune.steps import Stage


class Score(ABC):
    """Token importance. Subclasses are frozen dataclasses, one file each in `scores/`; higher is kept.

    What a score gives, and that it reads nothing but its `needs`, is checked each time, see `scoring.importance`.

    Attributes:
        needs: the roles of the `Trace` that are read, see `trace.ROLES`; an empty set lets the fused kernel run as it
            is. A plain class attribute, unless it depends on the fields.
        sees_text: whether a visual token's score depends on the question; then an image prefix must stop before it.
        paper: where it comes from, as `deltaprune methods` prints it.
    """

    needs: frozenset[str]
    sees_text: bool
    paper: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        """Importance of every live row, float32."""


class Reduce(ABC):
    """What happens to the rows that are not kept, and, where that decides it, which rows those are."""

    def choose(self, stage: "Stage", scores: Float[Tensor, "T"] | None, rows: Rows) -> Selection:
        """Who survives the stage: the highest scores, unless a subclass has a rule of its own."""
        return select(stage, scores, rows)

    @abstractmethod
    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        """The rows with only the kept ones left."""


@dataclass(frozen=True)
class Drop(Reduce):
    """The rows that are not kept leave the sequence; what they wrote into earlier layers' states stays."""

    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        return rows.take(kept.rows, kept.lengths, kept.n_visual)
