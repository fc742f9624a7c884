"""Pyramid: PyramidDrop's schedule (Xing et al., CVPR 2025), fewer tokens the deeper."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from deltaprune.checks import check_at_least_one, check_keep, check_layer
from deltaprune.methods import registry
from deltaprune.methods._ranking import Ranking
from deltaprune.scores.delta import Delta
from deltaprune.steps import Score, Shape, Stage


@registry.register("pyramid")
@dataclass(frozen=True)
class Pyramid(Ranking):
    """Keep the best share again and again, every `early` layers (arXiv 2410.17247).

    Attributes:
        keep: PyramidDrop's lambda, the share that each drop keeps: keep, keep^2, keep^3 of the image are left.
        early: layers before the first drop and between two drops; "plan" takes the early layer of the model's plan
            (Cobra: 15, 30, 45; PyramidDrop cuts 32 layers at 8, 16, 24).
        drops: how many.
        score: what ranks the tokens at each drop, read there anew.

    Deviations: PyramidDrop ranks by the attention the last instruction token pays; Mamba has none, `Delta()` stands in
    and `HiddenAttention()` is the faithful counterpart.
    """

    paper: ClassVar[str] = "PyramidDrop, Xing et al., CVPR 2025 (arXiv 2410.17247)"

    keep: float = 0.5
    early: int | Literal["plan"] = "plan"
    drops: int = 3
    score: Score | str = field(default_factory=Delta)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keep(self.keep)
        check_layer("early", self.early, "plan")
        check_at_least_one("drops", self.drops)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        early = shape.layer(self.early, "early")
        assert early is not None
        turns = range(1, min(self.drops, shape.n_layers + 1) + 1)  # one too deep is enough for `check_steps` to say so
        return tuple(Stage(after=i * early, keep=self.keep**i, score=self.ranks) for i in turns)
