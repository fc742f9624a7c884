"""Recurrent blocks: packed rows and a state in, packed rows and the new state out. One file per mixer.

A file registers two things under one name: in `registry` its `State`, so that a file of states can be read without the
model, and in `blocks` a function that makes a small block, so that `tests/contract/test_blocks.py` can test it.
"""

from collections.abc import Callable

from deltaprune.protocols import Block, State
from deltaprune.registry import Registry

registry: Registry[type[State]] = Registry("state", "deltaprune.blocks", State)

Maker = Callable[[int], Block]
"""Width of the residual stream -> a block with random weights and the mixer's default sizes otherwise."""

blocks: Registry[Maker] = Registry("block", "deltaprune.blocks")
