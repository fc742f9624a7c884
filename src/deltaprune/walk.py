"""The only loop over layers: prefill, prefixes, calibration and analysis go through it.

Decoding does where the model has no step of its own (`Prepared`), in which kernels take the token through all layers.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune.kernels import without_autocast
from deltaprune.protocols import Block, Model, Prepared, State, Step
from deltaprune.rows import Rows

F = TypeVar("F")
Run = Callable[[int, Block, F, State | None], tuple[F, State] | None]


def walk(model: Model, flow: F, states: Sequence[State], run: Run[F], first: int = 0) -> Iterator[tuple[F, State]]:
    """Take `flow` through the blocks, first to last.

    Args:
        model: the LM.
        flow: what enters the first block: `Rows` of a prompt, or one row of each sample while decoding.
        states: what earlier rows left in the first blocks; the others begin with none.
        run: `(l, block, flow, state)` -> what leaves the block and its new state, or None to end before the block.
        first: the block to begin with.

    Yields:
        For each block run, what left it and its state.
    """
    for l, block in enumerate(model.blocks[first:], first):
        done = run(l, block, flow, states[l] if l < len(states) else None)
        if done is None:
            return
        flow, state = done
        yield flow, state


def walk_through(model: Model, flow: F, states: Sequence[State], run: Run[F]) -> tuple[F, list[State]]:
    """What leaves the last block run, and the new state of each."""
    new = []
    for leaving, state in walk(model, flow, states, run):
        flow = leaving
        new.append(state)
    return flow, new


def run_fully(l: int, block: Block, rows: Rows, state: State | None) -> tuple[Rows, State]:
    """Run every row through the block, without a trace."""
    rows, new, _ = block.prefill(rows, state, frozenset())
    return rows, new


@without_autocast
def decode(
    model: Model,
    ids: Int[Tensor, "B"],
    states: Sequence[State],
    in_place: bool = False,
) -> tuple[Float[Tensor, "B V"], list[State]]:
    """One token of every sample: its logits and the new states.

    Args:
        model: the LM.
        ids: the tokens.
        states: what came before them, of each block.
        in_place: they may be written over.
    """

    def step(l: int, block: Block, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        assert state is not None
        return block.step(x, state, in_place)

    x, new = walk_through(model, model.embed(ids), states, step)
    return model.logits(x), new


def prepared(model: Model) -> Step:
    """`decode` of a model for many tokens in a row, as fast as the model can."""
    return model.prepared_step() if isinstance(model, Prepared) else partial(decode, model)


@torch.no_grad()
@without_autocast
def all_logits(model: Model, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
    """Logits at every position of a rectangular batch of text."""
    x = model.embed(ids)
    rows, _ = walk_through(model, Rows.pack([text[:0] for text in x], list(x)), (), run_fully)
    return model.logits(rows.x).unflatten(0, ids.shape)
