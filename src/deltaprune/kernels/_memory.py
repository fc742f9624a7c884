"""Memory that the layers of one prefill use in turn.

A freed large tensor goes back to the system, and the next one gets newly cleared pages: on a CPU this cost a tenth of a
layer's time.
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
    """Context manager: within it `empty` reuses the memory of the last tensor of the same name and type.

    A tensor made within it is valid until the next layer runs. At the end, referenced tensors are kept and the rest is
    freed. As with `use`, other threads have their own memory.
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


def lent(x: Tensor) -> bool:
    """Whether a tensor lies in memory of `reuse`, so that the layer that takes it may write over it."""
    blocks = _BLOCKS.get()
    return blocks is not None and x.device.type == "cpu" and _memory(x) in map(_memory, blocks.values())


def _memory(x: Tensor) -> int:
    """The address of a tensor's storage."""
    return x.untyped_storage().data_ptr()
