"""The state of each patch in each layer: kept, dropped or frozen."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from deltaprune.pruner import Kept
from deltaprune.steps import Step, passes_of

KEPT, WRITTEN, AVERAGED, SKIPPED, DROPPED = range(5)
FROZEN = {"write": WRITTEN, "mean": AVERAGED, "skip": SKIPPED}  # by how visual rows pass a layer by, see `steps.Pass`
WORDS = (
    "kept",
    "frozen, write the state",
    "frozen, an average image in their place",
    "frozen, not seen by the layer",
    "dropped",
)


def patch_states(
    steps: Sequence[Step], kept: Sequence[Kept], n_layers: int, n_patches: int
) -> UInt8[np.ndarray, "K P"]:
    """The state of every patch after k layers, k from 0 (what enters the LM) to `n_layers`.

    Args:
        steps: the method's.
        kept: what each of its stages left of the first sample, whose image comes first in the prompt.
        n_layers: the LM's depth.
        n_patches: of the picture that the towers were given.

    Returns:
        `[k, p]`: DROPPED where a stage at or before k dropped the patch; else one of `FROZEN` where layer k passed it
        by; else KEPT.
    """
    states = np.full((n_layers + 1, n_patches), KEPT, dtype=np.uint8)
    for l, how in passes_of(steps).items():
        states[l + 1] = FROZEN[how]
    for stage in kept:
        gone = np.isin(np.arange(n_patches), stage.origin[0].cpu().numpy(), invert=True)
        states[stage.after :, gone] = DROPPED
    return states


def last_choice(states: UInt8[np.ndarray, "K P"]) -> frozenset[int]:
    """The patches that are dropped at the last place where some are still left; none if none ever are."""
    gone = states == DROPPED
    some = gone[~gone.all(axis=1)]
    return frozenset(np.flatnonzero(some[-1]).tolist()) if len(some) else frozenset()


def patch_at(x: float, y: float, grid: tuple[int, int]) -> int:
    """The number of the patch at a point, in shares of the picture's width and height from its upper left corner."""
    rows, columns = grid
    row, column = (min(max(int(at * n), 0), n - 1) for at, n in ((y, rows), (x, columns)))
    return row * columns + column
