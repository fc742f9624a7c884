"""How long the parts of one `generate` take: vision, the prefill of the text model, and decoding."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from deltaprune.timing import wait

PARTS = ("vision", "prefill", "decode")


@contextmanager
def clocked(model: nn.Module, text: nn.Module, device: torch.device) -> Iterator[dict[str, float]]:
    """Milliseconds by part, in the dictionary that is given, when the block has ended.

    Vision is all that runs before the text model: towers, projector, embedding, and what `generate` prepares. Only the
    first call in this thread counts as the prefill, what comes after it is decoding.

    Args:
        model: the whole model.
        text: the part of it that calls the decoder layers.
        device: where both are.
    """
    wait(device)
    marks = [time.perf_counter()]
    thread = threading.get_ident()
    ms: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    def mark(at: int) -> Any:
        def hook(*_: Any) -> None:
            if threading.get_ident() == thread and len(marks) == at:
                wait(device)
                marks.append(time.perf_counter())

        return hook

    with ExitStack() as hooks:
        for handle in (
            text.register_forward_pre_hook(mark(1)),
            model.register_forward_hook(mark(2)),
        ):
            hooks.callback(handle.remove)
        yield ms
        wait(device)
        marks.append(time.perf_counter())
    if len(marks) == len(PARTS) + 1:
        ms |= {part: 1000 * (end - start) for part, start, end in zip(PARTS, marks, marks[1:], strict=False)}
