"""Shared by the scores whose values are ranks."""

from jaxtyping import Float
from torch import Tensor


def flag_broken(scores: Float[Tensor, "T"], *read: Tensor | None) -> Float[Tensor, "T"]:
    """The same ranks, but NaN where a row that was read is not finite: a rank alone would hide it.

    Args:
        scores: the ranks.
        read: row-wise tensors, `(T,)` or `(T, d)`, float32, that the ranks come from; None for one that was not needed.
    """
    for rows in read:
        if rows is not None:
            scores = scores + 0 * (rows if rows.ndim == 1 else rows.sum(1))  # 0 * inf and 0 * nan are nan
    return scores
