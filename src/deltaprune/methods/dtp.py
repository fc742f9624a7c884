"""DTP: Delta-guided Two-stage Pruning, the paper's method."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from deltaprune.checks import check_candidates, check_keep, check_layer
from deltaprune.methods import registry
from deltaprune.methods._layers import check_order
from deltaprune.methods._ranking import Ranking
from deltaprune.scores.delta import Delta
from deltaprune.steps import Score, Shape, Stage


@registry.register("dtp")
@dataclass(frozen=True)
class DTP(Ranking):
    """Keep the best share after an early layer, drop all visual tokens after a late one (section 4.2).

    Attributes:
        keep: the paper's r, share of the visual tokens kept between the two layers.
        early: layers that see all tokens; "plan" takes the model's stored plan (Cobra and RoboMamba: 15).
        late: layers that see any visual token; "plan" likewise (45); None leaves the late stage out (Table 5).
        score: what ranks the tokens (Table 3), a score or the name of one, as in the other methods.
        candidates: "visual", or "all" to let text be pruned too (Table 4).

    What is new in DTP is the two stages, their layers and the multimodal setting. The score has prior art: MTR (arXiv
    2507.14042, the same mean), DeciMamba (arXiv 2406.14528, its L2 norm) and MaMe (arXiv 2508.13599, Delta as
    informativeness).
    """

    paper: ClassVar[str] = "DTP, the paper this library is about"

    keep: float = 0.5
    early: int | Literal["plan"] = "plan"
    late: int | Literal["plan"] | None = "plan"
    score: Score | str = field(default_factory=Delta)
    candidates: Literal["visual", "all"] = "visual"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keep(self.keep)
        check_layer("early", self.early, "plan")
        check_layer("late", self.late, "plan", None)
        check_candidates(self.candidates)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        early, late = shape.layer(self.early, "early"), shape.layer(self.late, "late")
        assert early is not None
        check_order(shape, early, late)
        first = Stage(after=early, keep=self.keep, score=self.ranks, candidates=self.candidates)
        return (first,) if late is None else (first, Stage(after=late, keep=0.0))
