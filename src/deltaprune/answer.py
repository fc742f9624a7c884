"""What a prompt gave, what was kept for it, and how long it took."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from deltaprune.prefill import Kept, Prefilled
from deltaprune.prefix import ImagePrefix


@dataclass(frozen=True)
class Answer:
    """What a prompt gave, and what it took.

    Attributes:
        ids: new ids, rows that end early filled up with end-of-text.
        prefilled: the state after the prompt; `continue_from` answers from it again.
        ms: milliseconds of `vision` (towers and projector; 0 where they had run before), `prefill` and `decode`.
        prefix: the images' prefix that the prompt went on from, if one was given.
    """

    ids: Int[Tensor, "B L"]
    prefilled: Prefilled
    ms: Mapping[str, float]
    prefix: ImagePrefix | None = None

    @property
    def kept(self) -> tuple[Kept, ...]:
        """What each stage of the method left."""
        return self.prefilled.kept
