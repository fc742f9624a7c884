"""Rows that were dropped and over which the state still decays, see `merge.Align`."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

LEAST = 1e-30  # a step size that decays nothing and whose logarithm is finite


class Woven(NamedTuple):
    """What a scan takes, each row followed by one that only decays the state; letters as in `selective_scan`."""

    u: Float[Tensor, "T2 E"]
    dt: Float[Tensor, "T2 E"]
    b: Float[Tensor, "T2 N"]
    c: Float[Tensor, "T2 N"]
    z: Float[Tensor, "T2 E"]


def weave(
    u: Float[Tensor, "T E"],
    dt: Float[Tensor, "T E"],
    b: Float[Tensor, "T N"],
    c: Float[Tensor, "T N"],
    z: Float[Tensor, "T E"],
    bias: Float[Tensor, "E"],
    gap: Int[Tensor, "T"],
) -> Woven:
    """After each row one with u = 0 and Delta = gap * the row's Delta, so that h becomes exp(gap Delta A) h.

    Args:
        u, dt, b, c, z: of the rows.
        bias: of dt, float32; the inserted row's dt is the inverse of softplus, less this.
        gap: how many dropped rows follow each row.
    """
    over = (F.softplus(dt.float() + bias, threshold=20.0) * gap[:, None]).clamp(min=LEAST)
    decay = (over + torch.log(-torch.expm1(-over)) - bias).to(dt.dtype)
    return Woven(_paired(u, torch.zeros_like(u)), _paired(dt, decay), _paired(b, b), _paired(c, c), _paired(z, z))


def _paired(first: Float[Tensor, "T k"], second: Float[Tensor, "T k"]) -> Float[Tensor, "T2 k"]:
    return torch.stack([first, second], dim=1).flatten(0, 1)
