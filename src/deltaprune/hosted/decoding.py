"""How transformers' `generate` decodes an answer: greedy or sampled, and when it stops."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from deltaprune.generate import Sampler, Sampling
from deltaprune.inplace.target import Target
from deltaprune.pruner import Kept

PLAIN: dict[str, None] = dict.fromkeys(  # what a folder may set and neither `greedy` nor `Sampling` knows
    ("repetition_penalty", "no_repeat_ngram_size", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h")
)
OnToken = Callable[[int, tuple[Kept, ...]], bool]


def decoding(settings: Any, sampler: Sampler) -> dict[str, Any]:
    """The arguments of `generate` for a sampler; the folder's own sampling settings are overridden.

    A `Sampling` with a generator seeds torch's global generator with it, because `generate` draws from that one.

    Args:
        settings: the model's `generation_config`.
        sampler: `greedy` or a `Sampling`.
    """
    plain = {**PLAIN, "num_beams": 1, "pad_token_id": pad_id(settings)}
    if not isinstance(sampler, Sampling):
        return {**plain, "do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    if sampler.generator is not None:
        torch.manual_seed(sampler.generator.initial_seed())
    drawn = {"temperature": sampler.temperature, "top_k": sampler.top_k, "top_p": sampler.top_p}
    return {**plain, "do_sample": True, **drawn}


def end_ids(settings: Any) -> list[int]:
    """The ids that end an answer, in the folder's order."""
    eos = settings.eos_token_id
    return eos if isinstance(eos, list) else [] if eos is None else [eos]


def pad_id(settings: Any) -> int | None:
    """The id that fills up rows that end early: the folder's own, else the first that ends an answer."""
    pad = settings.pad_token_id
    return next(iter(end_ids(settings)), None) if pad is None else pad


def stopping(on_token: OnToken, target: Target | None) -> Callable[..., Bool[Tensor, "1"]]:
    """A stopping criterion of transformers' that passes each new token of one prompt to `on_token`."""

    def over(ids: Int[Tensor, "1 T"], scores: Any, **_: Any) -> Bool[Tensor, "1"]:
        end = on_token(int(ids[0, -1]), () if target is None else tuple(target.kept))
        return torch.full((len(ids),), end, device=ids.device)

    return over
