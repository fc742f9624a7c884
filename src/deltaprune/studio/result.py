"""One question under one setting: the answer, what it cost, how long it took, and what became of each patch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

NEW_TOKENS = 16  # most of an answer, as in `ask` and `generate`


@dataclass(frozen=True)
class Result:
    """What one setting gave.

    Attributes:
        method: the setting's text.
        answer: what the model said.
        tokens: visual tokens: as many as the towers gave, then what each stage left.
        after: for each stage, how many layers see all tokens that reach it.
        updated: in how many layers visual rows are updated, and the number of all layers.
        macs_share: the LM prefill's MACs over those without pruning, a fraction.
        ms: milliseconds for `vision`, `prefill` and `decode`, each a median.
        grid: rows and columns of patches that the towers were given; None where the visual tokens are no grid.
        states: see `layers.patch_states`.
    """

    method: str
    answer: str
    tokens: tuple[int, ...]
    after: tuple[int, ...]
    updated: tuple[int, int]
    macs_share: float
    ms: Mapping[str, float]
    grid: tuple[int, int] | None
    states: UInt8[np.ndarray, "K P"]

    @property
    def total_ms(self) -> float:
        """Picture, prompt and answer together."""
        return sum(self.ms.values())


@dataclass(frozen=True)
class Asked:
    """A question that was asked, with and without what the picture's prefix saves.

    Attributes:
        question, method, answer: of this question.
        first: whether the picture was run for it; else it started from the picture's prefix.
        whole_ms: picture, prompt and answer from scratch.
        took_ms: what it took: for the first question all of it, for a later one its own rows and the answer.
    """

    question: str
    method: str
    answer: str
    first: bool
    whole_ms: float
    took_ms: float

    @property
    def saved_ms(self) -> float:
        """What the prefix saved."""
        return self.whole_ms - self.took_ms
