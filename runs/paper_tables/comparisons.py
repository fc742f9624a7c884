"""Who wins: DTP against each of its rivals on the same questions, by the paired test, and the sentences that say so."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from deltaprune.evaluate import MethodResult
from deltaprune.evaluate.page import signed
from deltaprune.evaluate.statistics import Change, Summarise, change, holm

LEVEL = 0.05
RESAMPLES = 10_000  # more than a report takes, so that a corrected p can still be small
EQUAL = 0.01  # shares of the MACs that differ less are called equal


@dataclass(frozen=True)
class Comparison:
    """DTP less a rival.

    Attributes:
        block: which rows of the table are compared with one another.
        dtp, rival: methods.
        change: points, interval and p of this comparison alone.
        dearer: the rival's share of the MACs less DTP's, a fraction.
        corrected: p by Holm's method, corrected for the number of comparisons in the table.
    """

    block: str
    dtp: str
    rival: str
    change: Change
    dearer: float
    corrected: float = 1.0

    @property
    def verdict(self) -> str:
        """Whether DTP "wins" or "loses", or "neither" can be said."""
        if self.corrected >= LEVEL:
            return "neither"
        return "wins" if self.change.points > 0 else "loses"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"verdict": self.verdict}


def compare(blocks: Sequence[tuple[str, MethodResult, Sequence[MethodResult]]], summary: Summarise) -> list[Comparison]:
    """Each block's DTP against each of its rivals; a block is (name, DTP's row, the rivals' rows)."""
    found = []
    for name, dtp, rivals in blocks:
        for rival in rivals:
            moved = change(dtp.records, rival.records, summary, RESAMPLES)
            found.append(Comparison(name, dtp.method, rival.method, moved, rival.macs_share - dtp.macs_share))
    alone = [1.0 if each.change.p is None else each.change.p for each in found]
    return [replace(each, corrected=p) for each, p in zip(found, holm(alone), strict=True)]


def sentences(comparisons: Sequence[Comparison], named: dict[str, str]) -> list[str]:
    """One paragraph per block, from the numbers alone.

    Args:
        comparisons: of one table.
        named: what the table calls each method.
    """
    lines = []
    for block in dict.fromkeys(each.block for each in comparisons):
        of_block = [each for each in comparisons if each.block == block]
        said = [
            f"{start} {_listed([each for each in of_block if each.verdict == verdict], named)}."
            for verdict, start in (
                ("wins", "it does better than"),
                ("loses", "it does worse than"),
                ("neither", "no difference can be told from"),
            )
            if any(each.verdict == verdict for each in of_block)
        ]
        text = " ".join(part[0].upper() + part[1:] if i else part for i, part in enumerate(said))
        lines.append(f"**{block}**, `{of_block[0].dtp}`: {text}")
    return lines


def _listed(comparisons: Sequence[Comparison], named: dict[str, str]) -> str:
    ordered = sorted(comparisons, key=lambda each: -each.change.points)
    return ", ".join(
        f"{named[each.rival]} ({signed(asdict(each.change))}, {_p(each.corrected)}{_cost(each.dearer)})"
        for each in ordered
    )


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _cost(dearer: float) -> str:
    """How much more of the MACs the rival has, where they are not about equal."""
    return "" if abs(dearer) <= EQUAL else f", at {100 * dearer:+.1f} points of MACs"
