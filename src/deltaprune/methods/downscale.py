"""Downscale: a smaller picture, the simplest way to fewer visual tokens and a baseline for every pruning method."""

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

from deltaprune.checks import check_keep
from deltaprune.methods import registry
from deltaprune.selection import floor_count
from deltaprune.steps import Method, Shape, Shrink, Stage, Step


@registry.register("downscale")
@dataclass(frozen=True)
class Downscale(Method):
    """Shrink the picture before the vision towers, so that it has at most this share of the patches.

    The small picture has side x side patches, side = floor(sqrt(floor(keep * n + 1e-6))): of 729 visual tokens,
    keep=0.5 leaves 19 x 19 = 361, of 100 it leaves 7 x 7 = 49. No layer is pruned, and the towers run less as well.

    Attributes:
        keep: largest share of the visual tokens that the small picture may have. If that is all of them, nothing is
            shrunk; if it is none, all visual tokens are dropped before the first layer.

    Source: the baseline of VTC-Bench (arXiv 2510.07143), where it often beats pruning. Deviations: there, models take
    pictures of any size; the towers of Cobra and RoboMamba do not, so their position embeddings are interpolated
    (bicubic) to the small grid, for which they were never trained. What is shrunk is the picture as it was fitted to
    the tower, not the original file.
    """

    paper: ClassVar[str] = "the baseline of VTC-Bench, Liao et al., 2025 (arXiv 2510.07143)"

    keep: float = 0.5

    def __post_init__(self) -> None:
        check_keep(self.keep)

    def steps(self, shape: Shape) -> tuple[Step, ...]:
        most = floor_count(self.keep, shape.n_visual)
        if most == shape.n_visual:
            return ()
        return (Shrink(isqrt(most)),) if most else (Stage(after=0, keep=0.0),)
