"""V-CoLA: the image is cut into chunks of equal score, and each chunk is merged into one row."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from deltaprune.checks import check_at_least_one, check_keep, check_layer, check_positive, check_share
from deltaprune.merge import MergeChunks
from deltaprune.methods import registry
from deltaprune.methods._layers import check_order
from deltaprune.scores.retention import Retention
from deltaprune.steps import Method, Shape, Stage


@registry.register("vcola")
@dataclass(frozen=True)
class VCoLA(Method):
    """Cut the image after an early layer into chunks of equal `Retention` and merge each; drop all after a late layer.

    Attributes:
        keep: share of the visual tokens that is left, one of each chunk.
        after: layers that see all tokens, V-CoLA's 1 (of 32).
        late: layers that see any visual token; "plan" takes the model's plan (V-CoLA: 24 of 32); None leaves it out.
        unique: the weight of R_uni against R_imp, V-CoLA's 0.1.
        window: the readouts that R_uni looks at, V-CoLA's 4.
        temperature: V-CoLA's tau, 1: a chunk's rows are weighted by the softmax of their scores.

    Deviations: V-CoLA is written for hybrids with gated DeltaNet and says that pure Mamba is untested; here it reads a
    Mamba-1 layer, see `Retention`. How chunks are cut where one row weighs more than a chunk should is not described;
    here the next chunk begins right behind it.
    """

    paper: ClassVar[str] = "V-CoLA, Alibaba Cloud, 2026"

    keep: float = 0.5
    after: int = 1
    late: int | Literal["plan"] | None = "plan"
    unique: float = 0.1
    window: int = 4
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_layer("after", self.after)
        check_layer("late", self.late, "plan", None)
        check_share("unique", self.unique)
        check_at_least_one("window", self.window)
        check_positive("temperature", self.temperature)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        late, score = shape.layer(self.late, "late"), Retention(self.unique, self.window)
        check_order(shape, self.after, late, "after")
        merged = Stage(after=self.after, keep=self.keep, score=score, reduce=MergeChunks(self.temperature))
        return (merged,) if late is None else (merged, Stage(after=late, keep=0.0))
