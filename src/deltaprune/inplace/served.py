"""Whether a method's steps can run in place on some layers of transformers' own, whatever their weights and state."""

from collections.abc import Sequence

from deltaprune.errors import UserError
from deltaprune.protocols import Layer
from deltaprune.readers import readers
from deltaprune.steps import Shrink, Step, passes_of


def check_served(blocks: Sequence[Layer], steps: Sequence[Step]) -> None:
    """A `UserError` where steps need mean states or smaller pictures, or what no layer provides, see `readers`."""
    if "mean" in passes_of(steps).values():
        raise UserError(
            "Mean states are found and kept for models of deltaprune's own alone: here image rows write, or a layer "
            'does not see them, how="write" or "skip".'
        )
    if any(isinstance(step, Shrink) for step in steps):
        raise UserError(
            "Pictures are shrunk by the model's own processor here: hand it smaller ones, without a method."
        )
    readers(blocks, steps)
