"""The product as torch has it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deltaprune.kernels._backend import Backend


def matmul(x: Tensor, weight: Tensor, out: Tensor | None) -> Tensor:
    """See `matmul`."""
    return F.linear(x, weight) if out is None else torch.mm(x, weight.t(), out=out)


BACKEND = Backend(
    op="matmul",
    name="reference",
    devices=("*",),
    carries_state=True,
    probe=lambda: None,
    fn=matmul,
    gradients=True,
    capturable=True,
)
