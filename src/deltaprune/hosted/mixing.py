"""What mixing n rows with each other costs, for each kind of mixer: multiply-accumulates beside its weights' products.

The forms are those of transformers' own functions, so that torch's `FlopCounterMode` counts the same: an attention
computes the whole square, with what a causal mask hides, and a recurrence whole chunks.
"""

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Mixing:
    """Rows that do not see each other: an MLP, experts, a short convolution.

    Class attribute `part`: the component of `cost` that it belongs to.
    """

    part = "recurrence"

    def __call__(self, queries: float, rows: float) -> float:
        """MACs of a prefill.

        Args:
            queries: rows that are updated, in one piece.
            rows: rows that these see, all rows of the prompt: a row that only writes is among them.
        """
        return 0.0

    def step(self, rows: float) -> float:
        """MACs of one decoded row after so many."""
        return 0.0


@dataclass(frozen=True)
class Softmax(Mixing):
    """Attention: scores and their sum over values, `heads * (key + value)` for each pair of rows."""

    heads: int
    key: int
    value: int

    part = "attention"

    def __call__(self, queries: float, rows: float) -> float:
        return self.heads * (self.key + self.value) * queries * rows

    def step(self, rows: float) -> float:
        return self(1, rows + 1)


@dataclass(frozen=True)
class DeltaRule(Mixing):
    """Gated DeltaNet, chunk by chunk (`torch_chunk_gated_delta_rule`), a state of `key * value` numbers a head.

    For a chunk of C rows: k k^T, q k^T and (q k^T) v; two triangular systems; and three products with the state.
    Rows that only write, by `last_state`: k k^T, one system for a unit matrix and its product with v, and two products
    with the state.

    Attributes:
        groups: heads of the keys, where there is a rule for the state alone; else 0, and such rows run as the others.
    """

    heads: int
    key: int
    value: int
    groups: int = 0
    chunk: int = 64

    def __call__(self, queries: float, rows: float) -> float:
        if not self.groups:
            queries = rows
        c = self.chunk
        inside = c * c * (2 * self.key + self.value) + c * (c - 1) / 2 * (self.key + self.value)
        updated = ceil(queries / c) * self.heads * (inside + 3 * c * self.key * self.value)
        inside = c * c * (c - 1) / 2 + c * c * self.value + 2 * c * self.key * self.value
        return updated + ceil((rows - queries) / c) * (self.groups * c * c * self.key + self.heads * inside)

    def step(self, rows: float) -> float:
        return 3 * self.heads * self.key * self.value


@dataclass(frozen=True)
class StateSpace(Mixing):
    """Mamba-2, chunk by chunk (`mamba2_chunk_scan`), a state of `width * state` numbers a head.

    For a chunk of C rows: C B^T and its product with x; the chunk's state and what is read from the state before it.
    Then the states of all chunks are joined, each with all before it. Rows that only write: one product for the state.
    """

    heads: int
    width: int
    state: int
    chunk: int

    def __call__(self, queries: float, rows: float) -> float:
        c, chunks, size = self.chunk, ceil(queries / self.chunk), self.width * self.state
        inside = c * c * (self.width + self.state) + 2 * c * size
        return self.heads * (chunks * inside + (chunks + 1) ** 2 * size + (rows - queries) * size)

    def step(self, rows: float) -> float:
        return 3 * self.heads * self.width * self.state


@dataclass(frozen=True)
class SelectiveScan(Mixing):
    """Mamba-1, row by row: a state of `state` numbers a channel, counted as that of `blocks.mamba1`.

    Its products are elementwise, which torch's counter does not see, but for what is read.
    """

    channels: int
    state: int

    def __call__(self, queries: float, rows: float) -> float:
        return (4 * self.state + 3) * self.channels * rows

    def step(self, rows: float) -> float:
        return self(1, 1)
