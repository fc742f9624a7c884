"""Lower bounds of any engine: the matrix products of a prefill, and the weights that a decoded token reads."""

from collections.abc import Callable, Sequence
from statistics import median

import torch

from deltaprune.cost.macs import visual_tokens_per_layer
from deltaprune.cost.timing import timed
from deltaprune.mllm.lm import MambaLM
from deltaprune.steps import Shape, Step

COPIED = 2**28  # bytes that the bandwidth test copies, far more than any cache holds
COPIES = 20  # on a GPU, where one such copy takes no longer than a few launches


def rows_per_layer(steps: Sequence[Step], shape: Shape, text_tokens: int, batch: int) -> list[int]:
    """Rows that enter each layer of the LM: the remaining image rows and the text."""
    return [batch * (visual + text_tokens) for visual in visual_tokens_per_layer(steps, shape)]


def products(lm: MambaLM, rows: Sequence[int]) -> Callable[[], None]:
    """The matrix products of every layer and nothing else, ready to run.

    They take the layer's own weights, random inputs and memory made beforehand.

    Args:
        lm: the LM.
        rows: of each layer, see `rows_per_layer`.
    """
    weights = [block.products for block in lm.blocks]
    most, like = max(rows), {"device": lm.device, "dtype": lm.dtype}
    shapes = [weight.shape for layer in weights for weight in layer]
    inputs = {width: torch.randn(most, width, device=lm.device).to(lm.dtype) for width in {k for _, k in shapes}}
    outputs = {width: torch.empty(most, width, **like) for width in {n for n, _ in shapes}}

    @torch.no_grad()
    def run() -> None:
        for layer, count in zip(weights, rows, strict=True):
            for w in layer:
                torch.mm(inputs[w.shape[1]][:count], w.t(), out=outputs[w.shape[0]][:count])

    return run


def weight_bytes(lm: MambaLM) -> int:
    """Bytes that one decoded token reads: every tensor of the LM once, the embedding as the tied head."""
    return sum(weight.numel() * weight.element_size() for weight in lm.parameters())


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
