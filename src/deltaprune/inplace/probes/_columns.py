"""A part of a projection's output."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear


def columns(projection: Any, x: Tensor, part: slice) -> Tensor:
    """Some of the columns of a projection; all are computed where it is quantized or has an adapter."""
    if type(projection) is not nn.Linear:
        return projection(x)[..., part]
    return linear(x, projection.weight[part], None if projection.bias is None else projection.bias[part])
