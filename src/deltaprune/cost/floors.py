"""Lower bounds of any engine: the matrix products of a prefill, and the weights that a decoded token reads."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch

from deltaprune.cost.macs import visual_tokens_per_layer
from deltaprune.cost.timing import timed
from deltaprune.kernels import Quantized, quantized_matmul
from deltaprune.mllm.lm import MambaLM
from deltaprune.steps import Shape, Step, passes_of

COPIED = 2**28  # bytes that the bandwidth test copies, far more than any cache holds
COPIES = 20  # on a GPU, where one such copy takes no longer than a few launches


class LayerRows(NamedTuple):
    """Rows that a layer runs.

    Attributes:
        updated: rows that it updates: the text, and the image's unless it is passed by.
        written: image rows that only write its state.
    """

    updated: int
    written: int = 0


def rows_per_layer(steps: Sequence[Step], shape: Shape, text_tokens: int, batch: int) -> list[LayerRows]:
    """Rows that enter each layer of the LM: the remaining image rows and the text."""
    hows, found = passes_of(steps), []
    for l, visual in enumerate(visual_tokens_per_layer(steps, shape)):
        updated = text_tokens + (visual if l not in hows else 0)
        found.append(LayerRows(batch * updated, batch * visual if hows.get(l) == "write" else 0))
    return found


def products(lm: MambaLM, rows: Sequence[LayerRows]) -> Callable[[], None]:
    """The matrix products of every layer and nothing else, ready to run.

    They take the layer's own weights, random inputs and memory made beforehand.

    Args:
        lm: the LM.
        rows: of each layer, see `rows_per_layer`.
    """
    calls = [
        (weight, count)
        for block, (updated, written) in zip(lm.blocks, rows, strict=True)
        for count, layer in ((updated, block.products()), (written, block.products("write")))
        for weight in layer
        if count
    ]
    most, like = max(count for _, count in calls), {"device": lm.device, "dtype": lm.dtype}
    shapes = [weight.shape for weight, _ in calls]
    inputs = {width: torch.randn(most, width, device=lm.device).to(lm.dtype) for width in {k for _, k in shapes}}
    outputs = {width: torch.empty(most, width, **like) for width in {n for n, _ in shapes}}

    @torch.no_grad()
    def run() -> None:
        for w, count in calls:
            x, out = inputs[w.shape[1]][:count], outputs[w.shape[0]][:count]
            if isinstance(w, Quantized):
                quantized_matmul(x, w, out)
            else:
                torch.mm(x, w.t(), out=out)

    return run


def weight_bytes(lm: MambaLM) -> int:
    """Bytes that one decoded token reads: every tensor of the LM once, the embedding as the tied head.

    Of a quantized matrix that is its numbers and scales.
    """
    return sum(weight.numel() * weight.element_size() for weight in lm.parameters())


def layer_bytes(lm: MambaLM) -> int:
    """Bytes of the weights that a prefill reads: those of `weight_bytes` without the embedding and the final norm."""
    return sum(weight.numel() * weight.element_size() for block in lm.blocks for weight in block.parameters())


def copy_bandwidth(device: torch.device, rounds: int = 5) -> float:
    """Bytes read and written per second by a large copy, median."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    copies = COPIES if device.type == "cuda" else 1

    def copy() -> None:
        for _ in range(copies):
            target.copy_(source)

    times = [timed(copy, device)[1] for _ in range(rounds + 1)]
    return 2 * COPIED * copies / (median(times[1:]) / 1000)
