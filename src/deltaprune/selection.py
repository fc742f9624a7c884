"""The rules for counting and choosing the rows that a stage keeps. All of them are here."""

from collections.abc import Callable
from math import floor
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.rows import Rows

if TYPE_CHECKING:
    from deltaprune.steps import Stage

CountRule = Callable[[float, int], int]


def floor_count(keep: float, n_image: int) -> int:
    """How many of `n_image` visual tokens a share `keep` leaves: floor(keep * n + 1e-6), the paper's count."""
    return floor(keep * n_image + 1e-6)


def round_count(keep: float, n_image: int) -> int:
    """DivPrune's count, int(round(keep * n)) with Python's rounding: a half goes to the even number."""
    return round(keep * n_image)


class Selection(NamedTuple):
    """Which rows a stage keeps.

    Attributes:
        rows: the rows that are kept, ascending.
        lengths, n_visual: how many rows and visual rows each sample has left.
        ranked: each sample's visual rows, best first; the first `n_visual` of them are kept.
        scores: the scores that decided, one number per row; None if all or nothing was kept.
    """

    rows: Tensor
    lengths: tuple[int, ...]
    n_visual: tuple[int, ...]
    ranked: tuple[Tensor, ...]
    scores: Float[Tensor, "T"] | None = None


def select(stage: "Stage", scores: Float[Tensor, "T"] | None, rows: Rows) -> Selection:
    """Choose the survivors: float32 scores, the highest are kept, ties go to the lower index.

    With visual candidates every text row survives, and only host integers decide shapes, so nothing waits for the
    device. When text competes (an ablation), how many visual rows won has to be read back.
    """
    counts = stage.counts(rows.n_image, rows.n_visual)
    kept, lengths, n_visual, ranked = [], [], [], []
    for (start, end), live, count in zip(rows.spans, rows.n_visual, counts, strict=True):
        visual = rows.visual[start:end]
        row = torch.zeros(end - start, device=visual.device) if scores is None else scores[start:end].float()
        if stage.candidates == "visual":
            row = torch.where(visual, row, torch.inf)
        elif end > start:
            row = torch.cat([row[:-1], row.new_full((1,), torch.inf)])
        n_text = end - start - live
        order = torch.sort(row, descending=True, stable=True).indices
        survivors = torch.sort(order[: count + n_text]).values
        kept.append(survivors + start)
        lengths.append(count + n_text)
        if stage.candidates == "visual":
            best_first, left = order[n_text:], count
        else:
            best_first, left = order[visual[order]], int(visual[survivors].sum())
        ranked.append(best_first + start)
        n_visual.append(left)
    return Selection(torch.cat(kept), tuple(lengths), tuple(n_visual), tuple(ranked), scores)


def select_chunks(stage: "Stage", scores: Float[Tensor, "T"] | None, rows: Rows) -> Selection:
    """As `select`, but the survivors are the first rows of chunks: consecutive visual rows of about equal score.

    A sample of n visual rows that keeps K is cut into K chunks, none empty. Chunk k begins at the first row before
    which the scores sum to at least k / K of all; where a row weighs more than a chunk should, the next chunk begins
    right behind it. Scores are from 0 up; all rows weigh the same where they sum to 0. Text never competes.
    """
    if scores is None:
        return select(stage, None, rows)
    firsts = torch.zeros_like(scores)
    for b, count in enumerate(stage.counts(rows.n_image, rows.n_visual)):
        image = rows.visual_rows(b)
        starts = image[chunk_starts(scores[image], count)]
        firsts = firsts.index_fill(0, starts, 1.0)
    return select(stage, firsts, rows)._replace(scores=scores)


def chunk_starts(weight: Float[Tensor, "P"], count: int) -> Int[Tensor, "K"]:
    """Where each of `count` chunks of a row of weights begins, ascending from 0; count <= P."""
    live = len(weight)
    if count == 0:
        return torch.zeros(0, dtype=torch.int64, device=weight.device)
    turn = torch.arange(count, device=weight.device)
    after = weight.double().cumsum(0)
    even = torch.arange(1, live + 1, dtype=torch.float64, device=weight.device)
    after = torch.where(after[-1] > 0, after, even)
    before = after.roll(1).index_fill(0, turn[:1], 0.0)
    begins = (before < (turn / count * after[-1])[:, None]).sum(1)
    begins = (begins - turn).cummax(0).values + turn  # each at least one row after the last
    return torch.minimum(begins, live - count + turn)  # and enough rows left for those that follow
