"""Shared by the scores that choose token by token, where each pick depends on those before it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deltaprune.rows import Rows, on_device
from deltaprune.selection import floor_count
from deltaprune.similarity import cosine


class Images(NamedTuple):
    """The images of a batch, padded to P, the largest number of visual rows of one image.

    Attributes:
        alike: cosine of every two visual rows of an image; 0 beyond its rows.
        there: which rows exist.
    """

    alike: Float[Tensor, "B P P"]
    there: Bool[Tensor, "B P"]

    def to(self, tokens: Int[Tensor, "B"]) -> Float[Tensor, "B P"]:
        """How alike each token is to one token of its image."""
        return self.alike[torch.arange(len(tokens), device=tokens.device), tokens]


def side_by_side(rows: Rows, features: Float[Tensor, "T d"]) -> Images:
    """The similarities within each image by these features."""
    widest = max(rows.n_visual, default=0)
    alike = torch.zeros(len(rows.lengths), widest, widest, device=features.device)
    for b, live in enumerate(rows.n_visual):
        image = features[rows.visual_rows(b)]
        alike[b, :live, :live] = cosine(image, image)
    alike = (alike + alike.mT) / 2  # rounding must not make equal pairs differ
    alike.diagonal(dim1=1, dim2=2).round_()  # 1, or 0 for a row of zeros
    live = on_device(rows.n_visual, features.device)[:, None]
    return Images(alike, torch.arange(widest, device=features.device) < live)


def spread_out(rows: Rows, values: Float[Tensor, "T"]) -> Float[Tensor, "B P"]:
    """The values of each image's visual rows, side by side; 0 beyond them."""
    padded = torch.zeros(len(rows.lengths), max(rows.n_visual, default=0), device=values.device)
    for b, live in enumerate(rows.n_visual):
        padded[b, :live] = values[rows.visual_rows(b)]
    return padded


def places(
    there: Bool[Tensor, "B P"],
    picks: int,
    gain: Callable[[], Float[Tensor, "B P"]],
    take: Callable[[Int[Tensor, "B"]], None],
) -> Int[Tensor, "B P"]:
    """The place of each token in the order of picks, P where it is not picked; ties go to the lower index.

    Args:
        there: which tokens exist.
        picks: how many to pick in each image.
        gain: the current value of each token; ignored for tokens that are picked or do not exist.
        take: called with each image's pick; any token for an image that has none left.
    """
    width = there.shape[1]
    place = torch.full_like(there, width, dtype=torch.int64)
    free, numbers = there.clone(), torch.arange(width, device=there.device)
    for i in range(picks):
        best = gain().masked_fill(~free, -torch.inf).argmax(-1)
        picked = (numbers == best[:, None]) & free
        place = torch.where(picked, i, place)
        free = free & ~picked
        take(best)
    return place


def scored(rows: Rows, place: Int[Tensor, "B P"], keep: float) -> Float[Tensor, "T"]:
    """Minus the place of each visual row, 1 for text rows; rows beyond an image's own picks share the lowest score."""
    scores = torch.ones(len(rows.x), device=rows.x.device)
    for b, (live, total) in enumerate(zip(rows.n_visual, rows.n_image, strict=True)):
        own = place[b, :live]
        scores[rows.visual_rows(b)] = -torch.where(own < min(floor_count(keep, total), live), own, live).float()
    return scores


def most_picks(rows: Rows, keep: float) -> int:
    """How many tokens are picked in the image that keeps most."""
    pairs = zip(rows.n_image, rows.n_visual, strict=True)
    return max((min(floor_count(keep, total), live) for total, live in pairs), default=0)
