"""Answers that are decoded as one batch, one token a step; rows join and leave between steps.

A row's logits differ in the last bits between batches of different sizes: the matrix library takes another routine for
one row than for many. Where that could decide, because the two likeliest tokens are closer than `NEAR`, the row is read
and decoded alone up to there, and goes on with what that gave. So greedy answers in float32 equal those of `ask`, which
runs one question at a time. `docs/decisions/serve.md` has the measurement.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deltaprune.generate import NonFiniteLogits, finite, greedy, overflowed
from deltaprune.prefill import Prefilled
from deltaprune.protocols import Model, State
from deltaprune.serve.asked import Asked, Row
from deltaprune.walk import decode

NEAR = 1e-3  # logits; batches of different sizes differ by some 1e-5


class Decoding:
    """The running rows and their states.

    Args:
        model: the LM.
        eos_id: ends an answer.
        read: reads a prompt alone.

    Attributes:
        rows: in the order of the states' samples.
        alone: how many tokens were decided by running a row alone, since it was last set to 0.
    """

    def __init__(self, model: Model, eos_id: int, read: Callable[[Asked], Prefilled]):
        self.model, self.eos_id, self.read = model, eos_id, read
        self.exact = model.dtype in (torch.float32, torch.float64)
        self.rows: list[Row] = []
        self.states: list[State] = []
        self.alone = 0

    def add(self, rows: Sequence[Row], prefilled: Prefilled) -> None:
        """Rows whose prompts have just been read join, each with its first token."""
        start, new = len(self.rows), list(prefilled.states)
        self.rows += rows  # first, so that every request gets an answer even if what follows fails
        self.states = [type(s).cat([s, n]) for s, n in zip(self.states, new, strict=True)] if start else new
        logits = self.model.logits(prefilled.hidden)
        self._choose(start, logits)

    def step(self) -> None:
        """One more token of every row; there must be one."""
        ids = torch.tensor([row.ids[-1] for row in self.rows], device=self.model.device)
        logits, self.states = decode(self.model, ids, self.states)
        self._choose(0, logits)

    def leave(self) -> list[Row]:
        """Take out the rows that are over; returns them."""
        over = [row.over for row in self.rows]  # asked once: other threads may end a row meanwhile
        stay = [i for i, gone in enumerate(over) if not gone]
        left = [row for row, gone in zip(self.rows, over, strict=True) if gone]
        if left:
            index = torch.tensor(stay, dtype=torch.int64, device=self.model.device)
            self.states = [state.take(index) for state in self.states] if stay else []
            self.rows = [self.rows[i] for i in stay]
        return left

    def clear(self) -> None:
        """Take out all rows."""
        self.rows, self.states = [], []

    def _choose(self, start: int, logits: Tensor) -> None:
        """The next token of the rows from `start` on."""
        rows = self.rows[start:]
        (best, second), order = _two_best(logits)
        usable, near, ids = finite(logits).tolist(), (best - second < NEAR).tolist(), order.tolist()
        for i, row in enumerate(rows):
            row.mixed = row.mixed or len(rows) > 1
            if not usable[i]:
                row.error = NonFiniteLogits(overflowed(self.model))
                continue
            sampler = row.asked.samplers[row.index]
            if sampler is not greedy:
                chosen = int(sampler(logits[i : i + 1]))
            elif near[i] and row.mixed and self.exact:
                chosen = self._alone(start + i)
            else:
                chosen = ids[i]
            row.ids.append(chosen)
            if chosen == self.eos_id:
                row.reason = "stop"
            elif len(row.ids) == row.asked.most:
                row.reason = "length"

    def _alone(self, i: int) -> int:
        """Row i's next token as it is when the row is run by itself; its state is that run's from now on."""
        self.alone += 1
        row = self.rows[i]
        prefilled = self.read(row.asked)
        logits, states = self.model.logits(prefilled.hidden), list(prefilled.states)
        for token in row.ids:
            logits, states = decode(self.model, torch.tensor([token], device=self.model.device), states)
        for mine, own in zip(self.states, states, strict=True):
            for name, tensor in mine.tensors().items():
                tensor[i] = own.tensors()[name][0]
        row.mixed = False
        return int(greedy(logits))


def _two_best(logits: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The two highest logits of every row, and the id that `greedy` chooses."""
    values = logits.topk(2, -1).values
    return (values[:, 0], values[:, 1]), greedy(logits)
