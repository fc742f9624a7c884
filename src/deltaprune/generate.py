"""Decoding from a `Prefilled`: greedy or sampled, one token of every row at a time, each row with its own stop."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deltaprune.cuda_graphs.step import stepping
from deltaprune.errors import NotFinite, UserError
from deltaprune.prefill import Prefilled
from deltaprune.protocols import Model

Sampler = Callable[[Float[Tensor, "B V"]], Int[Tensor, "B"]]


class NonFiniteLogits(NotFinite):
    """A logit was NaN or infinite: the model's weights or activations overflowed."""


def greedy(logits: Float[Tensor, "B V"]) -> Int[Tensor, "B"]:
    """The likeliest token; ties go to the lower id."""
    return logits.argmax(-1)


@dataclass(frozen=True)
class Sampling:
    """Draw from softmax(logits / temperature), cut to the `top_k` likeliest and to the nucleus of mass `top_p`.

    The cuts are those of transformers, in the same order: tokens as likely as the last of the `top_k` are kept as well.

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
        p = self.narrowed(logits).softmax(-1)
        return torch.multinomial(p, 1, generator=self.generator)[:, 0]

    def narrowed(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """Logits over the temperature, -inf where a token cannot be drawn."""
        from transformers.generation import logits_process as warpers

        unread: Any = None  # the warpers take the ids so far and do not look at them
        if self.temperature != 1:
            logits = warpers.TemperatureLogitsWarper(float(self.temperature))(unread, logits)
        if self.top_k:
            logits = warpers.TopKLogitsWarper(self.top_k)(unread, logits)
        if self.top_p < 1:
            logits = warpers.TopPLogitsWarper(self.top_p)(unread, logits)
        return logits


@torch.no_grad()
def stream(
    model: Model,
    prefilled: Prefilled,
    eos_id: int,
    max_new_tokens: int,
    sampler: Sampler = greedy,
    graphed: bool | None = None,
) -> Iterator[Int[Tensor, "B"]]:
    """Yield one id per row until every row has ended; an ended row yields `eos_id` from then on.

    The model's state never grows, so each token costs the same. On a GPU the step runs as a CUDA graph if possible;
    `graphed=True` requires that, False forbids it. One value per token is read from the device: whether all rows have
    ended and all logits are finite.

    Raises:
        UserError: `max_new_tokens` is below 1, or a required graph is not possible.
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed, in a row that had not ended.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens={max_new_tokens} must be at least 1.")
    logits = model.logits(prefilled.hidden)
    prefilled.checked()
    ended, step = torch.zeros(len(logits), dtype=torch.bool, device=logits.device), None
    with ExitStack() as stack:
        for i in range(max_new_tokens):
            usable = finite(logits)
            if sampler is not greedy:  # a GPU could not go on after drawing from what is not a distribution
                logits = torch.where(usable[:, None], logits, 0)
            ids, usable = torch.where(ended, eos_id, sampler(logits)), usable | ended
            ended = ended | (ids == eos_id)
            all_usable, all_ended = torch.stack([usable, ended]).all(1).tolist()
            if not all_usable:
                raise NonFiniteLogits(overflowed(model))
            yield ids
            if all_ended or i + 1 == max_new_tokens:
                return
            step = step or stack.enter_context(stepping(model, list(prefilled.states), graphed))
            logits = step(ids)


def finite(logits: Float[Tensor, "B V"]) -> Bool[Tensor, "B"]:
    """Whether all logits of a row are numbers. 0 * inf and 0 * nan are nan, and one pass less than `isfinite`."""
    return (0 * logits).sum(-1) == 0


def first_logits(model: Model, prefilled: Prefilled) -> Float[Tensor, "B V"]:
    """The logits of the first token, checked.

    Raises:
        NonFiniteScore, NonFiniteLogits: the weights or activations overflowed.
    """
    logits = model.logits(prefilled.checked().hidden)
    if not bool(finite(logits).all()):
        raise NonFiniteLogits(overflowed(model))
    return logits


def overflowed(model: Model) -> str:
    """The sentence for logits that are not finite."""
    if model.dtype == torch.float16:
        why = "float16 holds no number above 65504, load the model with dtype='bfloat16' or 'float32'"
    else:
        why = "the weights or the activations are broken"
    return f"The logits of the next token are not finite (NaN or infinite): {why}."


def generate(
    model: Model,
    prefilled: Prefilled,
    eos_id: int,
    max_new_tokens: int,
    sampler: Sampler = greedy,
) -> Int[Tensor, "B L"]:
    """New ids `(B, L)`, L <= max_new_tokens; rows that end early are filled up with `eos_id`; raises as `stream`."""
    return torch.stack(list(stream(model, prefilled, eos_id, max_new_tokens, sampler)), dim=1)
