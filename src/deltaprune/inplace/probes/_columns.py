"""A part of a projection's output."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear


def columns(projection: Any, x: Tensor, part: slice) -> Tensor:
    """Some of the columns of a projection; all are computed where it is quantized or has an adapter."""
    if type(projection) is not nn.Linear:
        return projection(x)[..., part]
    return linear(x, projection.weight[part], None if projection.bias is None else projection.bias[part])


def columns_first(projection: Any, x: Tensor, part: slice) -> Tensor:
    """The same, `(B, n, d)` -> `(B, c, n)`, as a convolution takes it: for one sample nothing is copied."""
    if type(projection) is not nn.Linear or len(x) > 1:
        return columns(projection, x, part).transpose(1, 2)
    made = projection.weight[part] @ x[0].T
    return (made if projection.bias is None else made + projection.bias[part, None])[None]
