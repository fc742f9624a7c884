"""VTW (Lin et al., AAAI 2025): withdraw every visual token after one layer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from deltaprune.checks import check_layer
from deltaprune.methods import registry
from deltaprune.steps import Method, Shape, Stage


@registry.register("vtw")
@dataclass(frozen=True)
class VTW(Method):
    """Drop all visual tokens after layer `after` (arXiv 2405.05803, github.com/lzhxmu/VTW).

    Attributes:
        after: VTW's k, layers that see any visual token; "plan" takes the k of VTW's own criterion where the model's
            plan has it (`calibrate`), else the plan's late layer (45 for Cobra and RoboMamba, which is also the k
            that the criterion finds there).

    From layer `after` on only text rows run, with what they have read from the image before.
    """

    paper: ClassVar[str] = "VTW, Lin et al., AAAI 2025 (arXiv 2405.05803)"

    after: int | Literal["plan"] = "plan"

    def __post_init__(self) -> None:
        check_layer("after", self.after, "plan")

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        found = shape.plan.withdrawal if self.after == "plan" and shape.plan is not None else None
        if found == shape.n_layers:  # the criterion withdraws nothing
            return ()
        after = shape.layer(self.after if found is None else found, "late", "after")
        assert after is not None
        return (Stage(after=after, keep=0.0),)
