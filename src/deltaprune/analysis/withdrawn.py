"""The text alone from some layer on: what complete late stages leave, for many layers at the price of one run."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from deltaprune.protocols import Block, Model, State
from deltaprune.rows import Rows
from deltaprune.walk import run_fully, walk_through


def withdrawn_rows(
    model: Model, text: Mapping[int, Float[Tensor, "_ d"]], words: Sequence[int]
) -> dict[int, tuple[Float[Tensor, "_ d"], ...]]:
    """Text rows after the last layer if the layers from k on had seen no visual row, for each k of `text`.

    The layers from k on see text alone and start from nothing, so what enters layer k is all that is needed; the
    samples of every k run side by side.

    Args:
        model: the LM.
        text: k -> the text rows that enter layer k, the samples one after the other.
        words: text rows of each sample.

    Returns:
        k -> each sample's rows.
    """
    joined: list[int] = []

    def run(l: int, block: Block, before: list[Tensor], _: State | None) -> tuple[list[Tensor], State]:
        if l in text:
            before = before + list(text[l].split(list(words)))
            joined.append(l)
        if not before:
            return before, block.empty_state(0)
        rows, state = run_fully(l, block, Rows.pack([each[:0] for each in before], before), None)
        return list(rows.x.split(rows.lengths)), state

    rows, _ = walk_through(model, [], (), run)
    n = len(words)
    return {k: tuple(rows[i * n : (i + 1) * n]) for i, k in enumerate(joined)}
