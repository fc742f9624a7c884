"""The options and the result of one call of `deltaprune analyse`."""

from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from deltaprune.cli._grid import Grid
from deltaprune.cli._progress import Working
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deltaprune.analysis.parts import Run
    from deltaprune.methods.dtp import DTP
    from deltaprune.mllm.processor import Inputs
    from deltaprune.steps import Score
    from deltaprune.vlm import VLM


class Asked(NamedTuple):
    """The options of one call; empty where one was not given."""

    vlm: "VLM"
    sets: "list[list[Inputs]]"
    keep: tuple[float, ...]
    early: tuple[int, ...]
    late: tuple[int, ...]
    score: "Score"
    working: Working
    drawn: bool
    run: "Run"

    @property
    def inputs(self) -> "list[Inputs]":
        """The samples where there is one set."""
        return self.sets[0]

    @property
    def one_keep(self) -> float:
        """The share, else a `UserError`."""
        if len(self.keep) > 1:
            raise UserError("--keep takes one share here, such as 0.5: analyse keep takes several.")
        return self.keep[0] if self.keep else 0.5

    def about(self, samples: int) -> dict[str, Any]:
        """What every row begins with."""
        return {"model": self.vlm.config.name, "samples": samples}

    def macs(self, method: "DTP") -> float:
        """Share of the LM prefill's MACs, for prompts as long as the samples' mean."""
        from deltaprune.counting import share_of_steps

        words = [int(row.sum()) for batch in self.inputs for row in batch["attention_mask"]]
        return share_of_steps(method.checked_steps(self.vlm.shape), self.vlm.shape, fmean(words))


class Done(NamedTuple):
    """Rows, a table of them, and a figure where one was asked for."""

    rows: list[dict[str, Any]]
    table: Grid
    figure: "Figure | None" = None


def moved(row: dict[str, Any]) -> list[str]:
    """The cells JS, same and MACs of a row."""
    return [f"{row['js']:.4f}", f"{row['same']:.1f}", f"{100 * row['macs_share']:.1f}%"]
