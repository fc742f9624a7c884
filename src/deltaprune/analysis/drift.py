"""What pruning changes inside and at the end: states, the next token's distribution, the answer."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from deltaprune.analysis.layers import Batch, batches
from deltaprune.errors import UserError
from deltaprune.generate import generate
from deltaprune.prefill import Prefilled, prefill
from deltaprune.steps import Method
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class Drift:
    """Pruned against unpruned, for S samples.

    Attributes:
        state: ||h_l - h'_l|| / ||h_l|| of each layer's SSM state after the prompt, h without pruning and h' with it
            (Frobenius norm over channels and states); 0 in the layers before the first stage.
        kl: KL(p || p') of the next token in nats, p without pruning: what the answer's first token loses.
        same_answer: whether the greedy answers are equal, token by token.
    """

    state: Float64[np.ndarray, "L S"]
    kl: Float64[np.ndarray, "S"]
    same_answer: Bool[np.ndarray, "S"]

    @property
    def agreement(self) -> float:
        """Share of equal answers, in percent."""
        return 100 * float(self.same_answer.mean())


def drift(vlm: VLM, inputs: Batch | Iterable[Batch], method: Method, max_new_tokens: int = 16) -> Drift:
    """Run every sample with and without a method, whatever method is active.

    Args:
        vlm: the model.
        inputs: processor outputs; every row is a sample.
        method: what prunes.
        max_new_tokens: upper bound of an answer's length.

    Raises:
        UserError: no samples, or a method that does not fit the model.
    """
    parts = [_drift(vlm, batch, method, max_new_tokens) for batch in batches(inputs)]
    if not parts:
        raise UserError("There is nothing to measure: give at least one sample.")
    state, kl, same = zip(*parts, strict=True)
    return Drift(torch.cat(state, dim=1).numpy(), torch.cat(kl).numpy(), torch.cat(same).numpy())


def next_token_kl(full: Float[Tensor, "B V"], pruned: Float[Tensor, "B V"]) -> Float64[Tensor, "B"]:
    """KL(softmax(full) || softmax(pruned)) of each row in nats, float64."""
    p, q = full.double().log_softmax(-1), pruned.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def next_token_js(full: Float[Tensor, "B V"], pruned: Float[Tensor, "B V"]) -> Float64[Tensor, "B"]:
    """JS of the softmax of each row in nats, float64."""
    return jensen_shannon(full.double().log_softmax(-1), pruned.double().log_softmax(-1))


def jensen_shannon(p: Float[Tensor, "B V"], q: Float[Tensor, "B V"]) -> Float[Tensor, "B"]:
    """JS of two distributions given as log-probabilities, in nats."""
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=p.dtype, device=p.device))
    return ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1)) / 2


@torch.no_grad()
def _drift(
    vlm: VLM, inputs: Batch, method: Method, max_new_tokens: int
) -> tuple[Float64[Tensor, "L B"], Float64[Tensor, "B"], Bool[Tensor, "B"]]:
    """State drift, KL and equal answers of one batch, on the CPU."""
    lm, tokens = vlm.model.lm, vlm.pack(inputs)
    full, pruned = prefill(lm, tokens), prefill(lm, tokens, method.checked_steps(vlm.shape)).checked()
    state = torch.stack(
        [
            (a - b).double().flatten(1).norm(dim=1) / a.double().flatten(1).norm(dim=1)
            for a, b in zip(_recurrent(full), _recurrent(pruned), strict=True)
        ]
    )
    kl = next_token_kl(lm.logits(full.hidden), lm.logits(pruned.hidden))
    answers = [generate(lm, each, vlm.eos_id, max_new_tokens) for each in (full, pruned)]
    return state.cpu(), kl.cpu(), _equal_rows(answers[0], answers[1], vlm.eos_id).cpu()


def _recurrent(done: Prefilled) -> list[Tensor]:
    """Each layer's SSM state."""
    return [state.tensors()["ssm"] for state in done.states]


def _equal_rows(first: Int[Tensor, "B _"], second: Int[Tensor, "B _"], eos_id: int) -> Bool[Tensor, "B"]:
    """Whether two answers are the same ids; the shorter batch is filled up with end-of-text, as `generate` does."""
    width = max(first.shape[1], second.shape[1])
    padded = [torch.nn.functional.pad(ids, (0, width - ids.shape[1]), value=eos_id) for ids in (first, second)]
    return (padded[0] == padded[1]).all(dim=1)
