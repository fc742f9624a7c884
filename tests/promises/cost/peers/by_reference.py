"""This library once more, by its reference kernels."""

from typing import Any

import torch
from torch import Tensor

from deltaprune.cost.peers import Peer, registry
from deltaprune.kernels import use
from deltaprune.mllm.lm import MambaLM
from deltaprune.prefill import prefill
from deltaprune.rows import Rows


@registry.register("by_reference")
def by_reference(lm: MambaLM) -> list[Peer]:
    """One peer, wherever the LM is."""

    def run(x: Tensor) -> tuple[Tensor, Any]:
        with use("reference"):
            done = prefill(lm, Rows.pack([row[:0] for row in x], list(x)), graphed=False)
        return done.hidden, list(done.states)

    @torch.no_grad()
    def decode(ids: Tensor, state: Any) -> Tensor:
        with use("reference"):
            logits, state[:] = lm.step(ids, state)
        return logits

    return [Peer("by_reference", lm.dtype, run, decode, lm.logits)]
