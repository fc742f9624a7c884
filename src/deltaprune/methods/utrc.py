"""UTRC (Zhan et al., EMNLP 2024): less important tokens are matched with more important ones, then pruned or merged."""

from dataclasses import dataclass
from typing import ClassVar

from deltaprune.checks import check_keep, check_share
from deltaprune.merge import Merge
from deltaprune.methods import registry
from deltaprune.methods._schedule import Layer, check_schedule, schedule
from deltaprune.scores.clipped_output import ClippedOutput
from deltaprune.scores.redundancy import Redundancy
from deltaprune.steps import Method, Shape, Stage


@registry.register("utrc")
@dataclass(frozen=True)
class UTRC(Method):
    """Every few layers, reduce the visual tokens by importance and similarity together (arXiv 2410.14725).

    At each step the less important half (`ClippedOutput`) is matched with the more important half by cosine; of the
    pairs the most similar go, a share q of them pruned and the others merged.

    Attributes:
        keep: share that is left after the last step; each step keeps the same share of what reached it.
        early, until, every: a step after `early` layers and every `every` layers while below `until`; "plan" takes the
            early and the late layer of the model's plan. The paper's 12, 17, ... 42 of 64 is early=12,until=43,every=5.
        q: share of each step's tokens that is pruned, the others are merged.

    From the paper, not from the released code (github.com/wuyushuwys/ToR_SSM), which sorts each channel on its own, so
    that its halves are not sets of tokens, and merges by even and odd place. Deviations: visual rows only; the paper
    treats the branch's output (q = 0.5) and the residual (merged only) apart, here both are one sum and q holds for it;
    the paper leaves open which of the pairs are pruned, here the most similar; merged rows are weighted by their sizes;
    counts are floored shares of the original image.
    """

    paper: ClassVar[str] = "UTRC, Zhan et al., EMNLP 2024 (arXiv 2410.14725)"

    keep: float = 0.5
    early: Layer = "plan"
    until: Layer = "plan"
    every: int = 5
    q: float = 0.5

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_schedule(self.early, self.until, self.every)
        check_share("q", self.q)

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        layers = schedule(shape, self.early, self.until, self.every)
        n, score, reduce = len(layers), Redundancy(ClippedOutput()), Merge(into="half", pruned=self.q)
        shares = (self.keep ** (i / n) for i in range(1, n + 1))
        return tuple(Stage(after, share, score, reduce=reduce) for after, share in zip(layers, shares, strict=True))
