"""Alignment: ToP-ViM (Zhan et al., NeurIPS 2024), in which the state still decays over dropped tokens."""

from dataclasses import dataclass
from typing import ClassVar

from deltaprune.checks import check_keep
from deltaprune.merge import Align
from deltaprune.methods import registry
from deltaprune.methods._schedule import Layer, check_schedule, schedule
from deltaprune.scores.clipped_output import ClippedOutput
from deltaprune.steps import Method, Shape, Stage


@registry.register("alignment")
@dataclass(frozen=True)
class Alignment(Method):
    """Every few layers, drop the tokens with the smallest score and let the state decay over them (arXiv 2409.18962).

    Attributes:
        keep: share that is left after the last step; each step keeps the same share of what reached it.
        early, until, every: a step after `early` layers and every `every` layers while below `until`; "plan" takes the
            early and the late layer of the model's plan. The released runs of ToP-ViM begin after layer 5 or 10 of 24
            and drop every 5 or 10 layers.

    The score is the mean of the positive part of the scan's output (`ClippedOutput`), and `Align` is what becomes of
    the dropped. Deviations: ToP-ViM is a vision model, fine-tuned after pruning, which scans a picture in two or four
    directions; here the LM's one direction is pruned and nothing is trained. The decay of a dropped token is that of
    the kept one before it, see `Align`.
    """

    paper: ClassVar[str] = "ToP-ViM, Zhan et al., NeurIPS 2024 (arXiv 2409.18962)"

    keep: float = 0.5
    early: Layer = "plan"
    until: Layer = "plan"
    every: int = 5

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_schedule(self.early, self.until, self.every)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        layers = schedule(shape, self.early, self.until, self.every)
        n, score = len(layers), ClippedOutput()
        shares = (self.keep ** (i / n) for i in range(1, n + 1))
        return tuple(Stage(after, share, score, reduce=Align()) for after, share in zip(layers, shares, strict=True))
