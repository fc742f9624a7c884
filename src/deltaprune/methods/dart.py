"""DART (Wen et al., EMNLP 2025): keep the tokens that duplicate least, not the most important ones."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from deltaprune.checks import check_choice, check_flag, check_keep, check_layer
from deltaprune.methods import registry
from deltaprune.scores.duplication import DART_PIVOTS, ROLES, Duplication, dart_quota
from deltaprune.selection import floor_count
from deltaprune.steps import Method, Shape, Stage


@registry.register("dart")
@dataclass(frozen=True)
class DART(Method):
    """Keep a few pivots and the visual tokens least similar to them, after layer `after` (arXiv 2502.11494).

    Attributes:
        keep: share that is kept. DART's own reduction_ratio is the share that is dropped, 1 - keep.
        after: DART's K, layers that see all tokens.
        pivots: what chooses the pivots in place of the norm of the keys: "B", "delta", "x" or "random", see
            `Duplication`. The paper of DTP does not say what it took.
        exact_budget: keep floor(keep * n) tokens. By default the number is the official code's,
            4 + 8 floor(keep * n / 8), which reproduces the paper's MACs (Table 1).

    Deviations: those of `Duplication`; selected once during prefill.
    """

    paper: ClassVar[str] = "DART, Wen et al., EMNLP 2025 (arXiv 2502.11494)"

    keep: float = 0.5
    after: int = 2
    pivots: Literal["B", "delta", "x", "random"] = "B"
    exact_budget: bool = False

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_layer("after", self.after)
        check_flag("exact_budget", self.exact_budget)
        check_choice("pivots", self.pivots, tuple(ROLES))

    def steps(self, shape: Shape) -> tuple[Stage, ...]:
        score = Duplication(self.keep, self.pivots, self.exact_budget)
        count = floor_count if self.exact_budget else dart_count
        return (Stage(after=self.after, keep=self.keep, score=score, count=count),)


def dart_count(keep: float, n_image: int) -> int:
    """DART's official count, the image's pivots and what all 8 add: 4 + 8 * floor(keep * n / 8); 0 and 1 stay exact."""
    if keep in (0, 1):
        return floor_count(keep, n_image)
    return min(n_image, DART_PIVOTS + 2 * DART_PIVOTS * dart_quota(keep, n_image))
