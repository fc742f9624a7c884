"""Decoding from a `Prefilled`: greedy or sampled, one token of every row at a time, each row with its own stop."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deltaprune._registry import UserError
from deltaprune.mamba import MambaLM
from deltaprune.mamba.graphs import stepping
from deltaprune.prefill import Prefilled

Sampler = Callable[[Float[Tensor, "B V"]], Int[Tensor, "B"]]


def greedy(logits: Float[Tensor, "B V"]) -> Int[Tensor, "B"]:
    """The likeliest token; ties go to the lower id."""
    return logits.argmax(-1)


@dataclass(frozen=True)
class Sample:
    """Draw from softmax(logits / temperature), cut to the `top_k` likeliest and to the nucleus of mass `top_p`.

    Attributes:
        temperature: above 0; small is close to greedy.
        top_k: 0 keeps all.
        top_p: in (0, 1]; 1 keeps all.
        generator: the source of randomness; None takes torch's global one.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"temperature={self.temperature} must be above 0; leave do_sample off for greedy decoding.")
        if self.top_k < 0:
            raise UserError(f"top_k={self.top_k} must be 0 (keep all) or a positive count.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p} must lie above 0 and not above 1 (1 keeps all).")

    def __call__(self, logits: Float[Tensor, "B V"]) -> Int[Tensor, "B"]:
        logits, ids = (logits / self.temperature).sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            logits[:, self.top_k :] = -torch.inf
        p = logits.softmax(-1)
        p = p.masked_fill(p.cumsum(-1) - p >= self.top_p, 0.0)  # the token that crosses top_p is still in
        drawn = torch.multinomial(p, 1, generator=self.generator)
        return ids.gather(-1, drawn)[:, 0]


@torch.no_grad()
def stream(
    model: MambaLM,
    prefilled: Prefilled,
    eos_id: int,
    max_new_tokens: int,
    sampler: Sampler = greedy,
    graphed: bool | None = None,
) -> Iterator[Int[Tensor, "B"]]:
    """Yield one id per row until every row has ended; an ended row goes on yielding `eos_id`.

    The model's state never grows, so each token costs the same. On a GPU the step is a CUDA graph where it can be one;
    `graphed` asks for it, or forbids it.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens={max_new_tokens} must be at least 1.")
    ids = sampler(model.logits(prefilled.hidden))
    prefilled.checked()
    ended = torch.zeros_like(ids, dtype=torch.bool)
    step = None
    with ExitStack() as stack:
        for i in range(max_new_tokens):
            ids = torch.where(ended, eos_id, ids)
            yield ids
            ended |= ids == eos_id
            if i + 1 == max_new_tokens or bool(ended.all()):
                return
            step = step or stack.enter_context(stepping(model, list(prefilled.states), graphed))
            ids = sampler(step(ids))


def generate(
    model: MambaLM,
    prefilled: Prefilled,
    eos_id: int,
    max_new_tokens: int,
    sampler: Sampler = greedy,
) -> Int[Tensor, "B L"]:
    """All new ids `(B, L)`, L <= max_new_tokens; rows that end early are filled up with `eos_id`."""
    return torch.stack(list(stream(model, prefilled, eos_id, max_new_tokens, sampler)), dim=1)
