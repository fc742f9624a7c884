"""Recurrent blocks: packed rows in, packed rows out, states in hand. One file per mixer.

The registry finds a block's `State` by its kind, so that a file of states can be read without the model.
"""

from deltaprune.protocols import State
from deltaprune.registry import Registry

registry: Registry[type[State]] = Registry("state", "deltaprune.blocks", State)
