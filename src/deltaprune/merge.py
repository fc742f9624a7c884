"""Reductions other than `Drop`: Merge and MergeChunks fold dropped rows into kept ones, Align keeps their decay."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.checks import check_choice, check_positive, check_share
from deltaprune.errors import UserError
from deltaprune.rows import GAP, Rows, on_device
from deltaprune.selection import Selection, floor_count, select_chunks
from deltaprune.similarity import cosine
from deltaprune.steps import Reduce, Stage

TARGETS = ("any", "lowest", "half")


@dataclass(frozen=True)
class Merge(Reduce):
    """Fold each dropped visual row into the most similar target, size-weighted, at the target's place.

        x_t <- (size_t x_t + sum_s size_s x_s) / (size_t + sum_s size_s)      s: the dropped rows whose target is t

    Similarity is the cosine of the residual rows; ties go to the lower index. The size-weighted sum of the visual rows
    is conserved and `Rows.size` counts how many tokens a row represents. The order is kept, as in every stage. Text
    rows never merge: text that competes and loses is dropped. If no visual row is kept, all are dropped.

    Attributes:
        into: which kept rows are targets: "any"; "lowest", the ones ranked last, as many as are dropped (MTR's Target
            group); "half", those in the better half of the rows that reached the stage (the other side of a bipartite
            matching, see `Redundancy`).
        pruned: share of the dropped rows that are not merged, the most similar first, since they carry least new
            information (UTRC's q).
    """

    into: Literal["any", "lowest", "half"] = "any"
    pruned: float = 0.0

    def __post_init__(self) -> None:
        check_choice("into", self.into, TARGETS)
        check_share("pruned", self.pruned)

    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        x, size = rows.x.clone(), rows.size.clone()
        for ranked, left in zip(kept.ranked, kept.n_visual, strict=True):
            if 0 < left < len(ranked):
                targets = self._targets(ranked, left)
                x[targets], size[targets] = fold(x, size, targets, ranked[left:], self.pruned)
        return replace(rows, x=x, size=size).take(kept.rows, kept.lengths, kept.n_visual)

    def _targets(self, ranked: Int[Tensor, "P"], left: int) -> Int[Tensor, "_"]:
        live = len(ranked)
        start = max(0, left - (live - left)) if self.into == "lowest" else 0
        end = min(left, live // 2) if self.into == "half" else left
        return ranked[start:end].sort().values


def fold(
    x: Float[Tensor, "T d"], size: Int[Tensor, "T"], targets: Int[Tensor, "A"], dropped: Int[Tensor, "S"], pruned: float
) -> tuple[Float[Tensor, "A d"], Int[Tensor, "A"]]:
    """The target rows and their sizes after taking in the dropped rows.

    Sums are one matrix product with the assignment, not an indexed add, so that they do not depend on thread order.
    """
    home, gone = x[targets], x[dropped]
    likeness, nearest = cosine(gone, home).max(-1)
    merged = torch.sort(likeness, descending=True, stable=True).indices[floor_count(pruned, len(dropped)) :]
    joins = nearest[merged, None] == torch.arange(len(targets), device=x.device)
    weight = joins * size[dropped[merged], None]
    added = weight.sum(0)
    total = size[targets] + added
    shift = weight.T.to(x.dtype) @ gone[merged] - added[:, None] * home
    return home + shift / total[:, None], total


@dataclass(frozen=True)
class MergeChunks(Reduce):
    """Cut the image into chunks of consecutive visual rows and make one row of each, at its first row's place.

        x <- sum_j w_j x_j,    w = softmax over the chunk of s_j / temperature

    Chunks are as many as rows are kept and hold about equal sums of the scores s, which are from 0 up (V-CoLA; see
    `select_chunks`). `Rows.size` adds up; the size-weighted sum of the rows is not conserved, as their weights are the
    scores'. A chunk may reach over text, or from one image into the next, where a prompt holds several.

    Attributes:
        temperature: the weights are even where it is large, and the best row's alone where it is near 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)

    def choose(self, stage: Stage, scores: Float[Tensor, "T"] | None, rows: Rows) -> Selection:
        if stage.candidates == "all":
            raise UserError('MergeChunks() cuts the image alone: use it with candidates="visual".')
        return select_chunks(stage, scores, rows)

    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        if kept.scores is None:
            return rows.take(kept.rows, kept.lengths, kept.n_visual)
        x, size = rows.x.clone(), rows.size.clone()
        for b, count in enumerate(kept.n_visual):
            if 0 < count < rows.n_visual[b]:
                image, firsts = rows.visual_rows(b), kept.ranked[b][:count].sort().values
                chunk = (image[:, None] >= firsts).sum(1) - 1
                member = chunk == torch.arange(count, device=x.device)[:, None]
                logits = (
                    (kept.scores[image] / float(self.temperature)).expand(count, -1).masked_fill(~member, -torch.inf)
                )
                x[firsts] = logits.softmax(-1).to(x.dtype) @ x[image]
                size[firsts] = (member * size[image]).sum(1)
        return replace(rows, x=x, size=size).take(kept.rows, kept.lengths, kept.n_visual)


@dataclass(frozen=True)
class Align(Reduce):
    """Drop the rows, but let the state decay over them in all layers that follow (hidden-state alignment, ToP-ViM).

        h <- exp(g Delta_t A) h   after each kept row t    g: how many rows were dropped between it and the next

    A dropped row no longer has a step size; that of the kept row before it is used instead, so A-bar is raised to a
    power that depends on the distance. Rows dropped before the first kept one cause no decay: there is no state yet.
    The cost, a multiplication per channel and state for each row, is not counted in the MACs. The layers have to
    support it (`protocols.DecaysOverGaps`): Mamba-1 does.

    Source: arXiv 2409.18962, section on pruning-aware hidden state alignment. Its released code
    (github.com/ZLKong/ToP-ViM) has no such step.
    """

    leaves_gaps: ClassVar[bool] = True

    def __call__(self, rows: Rows, kept: Selection) -> Rows:
        gap = rows.beside.get(GAP, torch.zeros_like(rows.origin))
        left = rows.take(kept.rows, kept.lengths, kept.n_visual)
        if len(left.x) == 0:
            return left
        before = torch.cat([gap.new_zeros(1), (1 + gap).cumsum(0)])  # the original length up to each row
        behind = torch.cat([before[kept.rows[1:]], before[-1:]])  # and up to the next one that is kept
        some = on_device([b for b, length in enumerate(kept.lengths) if length], gap.device)
        last = left.cu_seqlens[1:].long()[some] - 1  # of each sample: what comes next is the sample's end
        behind = behind.index_copy(0, last, before[rows.cu_seqlens[1:].long()[some]])
        return replace(left, beside={**left.beside, GAP: behind - before[kept.rows] - 1})
