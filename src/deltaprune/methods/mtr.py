"""MTR (Ma et al., 2025): by Delta into Keep, Target and Source; Source is merged into Target."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from deltaprune.checks import check_keep, check_layer
from deltaprune.merge import Merge
from deltaprune.methods import registry
from deltaprune.methods._layers import check_order
from deltaprune.scores.delta import Delta
from deltaprune.steps import Method, Shape, Stage


@registry.register("mtr")
@dataclass(frozen=True)
class MTR(Method):
    """Rank the visual tokens by the mean of Delta and merge the lowest into those just above (arXiv 2507.14042).

    The lowest tokens (Source) are merged into the most similar of as many just above them (Target); the best (Keep)
    stay as they are; the order is restored.

    Attributes:
        keep: share that is left, Keep and Target together.
        early: layers that see all tokens; "plan" takes the early layer of the model's plan.
        late: drop all visual tokens after this layer, as DTP does; None (MTR's own) never does.

    Deviations: MTR reduces vision Mambas over several layers, here it is one stage on the visual rows of a multimodal
    LM; merged rows are weighted by their sizes (of single tokens and one source, MTR's plain mean). How large Target is
    was not stated in what could be read of the paper; as many as Source is the bipartite matching it names. Where more
    than half goes, every row that is left is a Target.
    """

    paper: ClassVar[str] = "MTR, Ma et al., 2025 (arXiv 2507.14042)"

    keep: float = 0.5
    early: int | Literal["plan"] = "plan"
    late: int | Literal["plan"] | None = None

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_layer("early", self.early, "plan")
        check_layer("late", self.late, "plan", None)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        early, late = shape.layer(self.early, "early"), shape.layer(self.late, "late")
        assert early is not None
        check_order(shape, early, late)
        merged = Stage(after=early, keep=self.keep, score=Delta(), reduce=Merge(into="lowest"))
        return (merged,) if late is None else (merged, Stage(after=late, keep=0.0))
