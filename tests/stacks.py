"""An LM of any blocks, hybrids included, for tests: what `protocols.Model` asks for and nothing else."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from deltaprune.protocols import Block


class Stack:
    """Random embedding, these blocks, a norm without weights, a tied head."""

    images_first: ClassVar[bool] = True
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, blocks: Sequence[Block], width: int, vocabulary: int = 19):
        self.blocks = blocks
        self.weight = torch.randn(vocabulary, width, generator=torch.Generator().manual_seed(5))

    def embed(self, ids: Tensor) -> Tensor:
        return self.weight[ids]

    def norm(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:])

    def logits(self, x: Tensor) -> Tensor:
        return self.norm(x) @ self.weight.T
