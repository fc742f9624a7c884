"""How alike two rows are: used by scores that prefer variety and by merging."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cosine(a: Float[Tensor, "A d"], b: Float[Tensor, "B d"]) -> Float[Tensor, "A B"]:
    """Cosine of the angle between every row of `a` and every row of `b`, in [-1, 1]; 0 for a row of zeros."""
    return F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T
