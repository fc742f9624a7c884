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
    """Token importance: the rows with the highest scores are kept. Subclasses are frozen dataclasses in `scores/`.

    At each call the result's form is checked, and that nothing but `needs` is read, see `scoring.importance`.

    Attributes:
        needs: the roles of the `Trace` that are read, see `trace.ROLES`; an empty set lets the fused kernel run as it
            is. A plain class attribute, unless it depends on the fields.
        also: roles that are read in addition if the layer provides them.
        sees_text: whether a visual token's score depends on the question; an image prefix then ends before the stage.
        paper: where it comes from, as `deltaprune methods` prints it.
    """

    needs: frozenset[str]
    also: frozenset[str] = frozenset()
    sees_text: bool
    paper: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, rows: Rows, trace: Trace) -> Float[Tensor, "T"]:
        """Importance of every live row, text rows included: `(T,)` float32, finite; the highest are kept.

        Args:
            rows: the live rows of the batch, packed.
            trace: the roles of `needs`, and those of `also` that the layer provides.
        """


class Reduce(ABC):
    """What happens to the rows that are not kept; a subclass may also decide which rows are kept.

    Class attributes:
        leaves_gaps: whether the state decays over the dropped rows in every layer that follows, see `rows.GAP`.
    """

    leaves_gaps: ClassVar[bool] = False

    def choose(self, stage: "Stage", scores: Float[Tensor, "T"] | None, rows: Rows) -> Selection:
        """Which rows are kept: those with the highest scores, unless a subclass has its own rule."""
        return select(stage, scores, rows)

    @abstractmethod
    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        """The rows with only the kept ones left, in prompt order.

        Args:
            rows: all rows that reached the stage, packed.
            kept: which of them stay, and each sample's ranking.
        """


@dataclass(frozen=True)
class Drop(Reduce):
    """The rows that are not kept leave the sequence; what they wrote into earlier layers' states stays."""

    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        return rows.take(kept.rows, kept.lengths, kept.n_visual)
