"""Memory that the layers of one prefill use in turn.

A large tensor goes back to the system when it is freed, and the pages of the next one are handed out and cleared anew:
on a CPU this cost a tenth of a layer's time.
"""

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

_BLOCKS: ContextVar[dict[tuple[str, torch.dtype], Tensor] | None] = ContextVar("deltaprune_memory", default=None)


@contextlib.contextmanager
def reuse() -> Iterator[None]:
    """Within it, `empty` gives out the memory that the last tensor of the same name and type had.

    So a tensor made within lives until the next layer runs. What is still held at the end stays as it is, and the rest
    is freed. Bound to the context, as `use` is: other threads have memory of their own.
    """
    token = _BLOCKS.set({})
    try:
        yield
    finally:
        _BLOCKS.reset(token)


def empty(name: str, shape: tuple[int, ...], dtype: torch.dtype, beside: Tensor | None = None) -> Tensor:
    """An uninitialised tensor on the CPU; within `reuse`, in the block of its name.

    A result that is computed from the one before it has two blocks, and takes the one that `beside` does not lie in.
    """
    blocks, size = _BLOCKS.get(), math.prod(shape)
    if blocks is None:
        return torch.empty(shape, dtype=dtype)
    block = blocks.get((name, dtype))
    if block is not None and beside is not None and _memory(block) == _memory(beside):
        name = f"{name}, the other"
        block = blocks.get((name, dtype))
    if block is None or len(block) < size:
        block = blocks[name, dtype] = torch.empty(size, dtype=dtype)
    return block[:size].view(shape)


def _memory(x: Tensor) -> int:
    """Where the memory begins that a tensor is a part of."""
    return x.untyped_storage().data_ptr()
