"""A prompt without a picture: a few rows through the LM, which read all of its weights.

So short is a question about a picture that has been run already, and the next turn of a chat.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from deltaprune.cost.floors import LayerRows, products
from deltaprune.cost.peers import Peer
from deltaprune.cost.timing import timed
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows

ROWS = 23


class ShortTimes(NamedTuple):
    """Milliseconds of the prefill, and of its matrix products alone."""

    prefill: float
    products: float


@dataclass(frozen=True)
class ShortPrompt:
    """The prefill of `ROWS` rows without pruning by each contestant.

    Attributes:
        lm: whose weights are read.
        runs: by contestant.
        products: the matrix products of the rows alone.
    """

    lm: MambaLM
    runs: Mapping[str, Callable[[], object]]
    products: Callable[[], None]

    @torch.no_grad()
    def times(self, label: str) -> ShortTimes:
        """One run of a contestant, and one of the products."""
        return ShortTimes(*(timed(run, self.lm.device)[1] for run in (self.runs[label], self.products)))


def short_prompt(lm: MambaLM, methods: Sequence[str], peers: Sequence[Peer] = ()) -> ShortPrompt:
    """The prompt of `ROWS` random rows for peers and methods; without a picture all methods run alike."""
    x = torch.randn(ROWS, lm.config.d_model, generator=torch.Generator().manual_seed(0)).to(lm.device)
    rows = Rows.pack([x[:0]], [x])
    runs: dict[str, Callable[[], object]] = {label: (lambda: prefill(lm, rows)) for label in methods}
    runs |= {peer.name: (lambda peer=peer: peer.prefill(x[None])) for peer in peers}
    return ShortPrompt(lm, runs, products(lm, [LayerRows(ROWS)] * len(lm.blocks)))
