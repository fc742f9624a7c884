"""In which order layers may stop updating visual rows, on a model of transformers' own; the rule is that of `freezing`.

    model = AutoModelForImageTextToText.from_pretrained(...)
    found = order_in_place(model, [processor(images=image, text=prompt, return_tensors="pt"), ...], budget=0.6)
    with dp.Freeze(**found.layers())(model):
        model.generate(...)

A trial runs the whole model on every prompt followed by its own unpruned answer, so it takes `n_layers` to twice as
many prefills of all samples, and a few more for each change. Ask every kind of question about each picture.
"""

import heapq
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from deltaprune.calibrate.divergence import jensen_shannon
from deltaprune.calibrate.freezing import check_reachable, counted_text, price_of, unreachable
from deltaprune.errors import NotFinite, UserError
from deltaprune.inplace.target import Target
from deltaprune.methods.freeze import Freeze
from deltaprune.plan import Change

How = Literal["write", "skip"]
MODES: tuple[How, ...] = ("write", "skip")


@dataclass
class FoundInPlace:
    """What the search found.

    Attributes:
        changes: the order, for `Plan.freezing`.
        shares: of the MACs after each change, for prompts of `counted_text` text tokens.
        evaluations, seconds: runs of all samples, and the time of all.
    """

    changes: list[Change] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    evaluations: int = 0
    seconds: float = 0.0

    def layers(self) -> dict[How, tuple[int, ...]]:
        """The schedule after the last change, as `Freeze` takes it."""
        hows = {change.layer: change.how for change in self.changes}
        return {how: tuple(sorted(l for l, found in hows.items() if found == how)) for how in MODES}


@dataclass(frozen=True)
class OwnAnswer:
    """A prompt, and the unpruned model's answer to it.

    Attributes:
        inputs: the prompt with the answer but for its last token, one row.
        count: tokens of the answer.
        log_p: their log-probabilities among all, unpruned.
        visual: visual tokens of the prompt.
    """

    inputs: Mapping[str, Any]
    count: int
    log_p: Float[Tensor, "A V"]
    visual: int


@torch.no_grad()
def order_in_place(
    model: Any,
    samples: Sequence[Mapping[str, Any]],
    budget: float,
    modes: Sequence[How] = MODES,
    max_new_tokens: int = 16,
    on_change: Callable[[FoundInPlace], None] | None = None,
) -> FoundInPlace:
    """The order of changes down to a budget: again and again the one with the least rise of JS per MAC saved.

    Args:
        model: as AutoModelForImageTextToText loads it.
        samples: processor outputs of one prompt each, with its image, where the model is.
        budget: share of the prefill's MACs at which to stop.
        modes: which changes are tried.
        max_new_tokens: upper bound of an answer's length.
        on_change: called with what is known after each change.

    Raises:
        UserError: no samples, a sample that is not one prompt with an image, or a budget that these modes cannot meet.
        NotFinite: the logits overflowed.
    """
    if not samples:
        raise UserError("There is nothing to calibrate on: give at least one picture with a question.")
    begin, answers = time.perf_counter(), [own_answer(model, sample, max_new_tokens) for sample in samples]
    target, visual = Target(model), sum(each.visual for each in answers) / len(answers)
    text = counted_text(sum(each.inputs["input_ids"].shape[1] for each in answers) / len(answers) - visual)
    shape, found = replace(target.shape, n_visual=round(visual)), FoundInPlace()
    hows: dict[int, How] = {}
    price = price_of(shape, text)
    check_reachable(budget, modes, price, shape.n_layers)
    js, share = 0.0, price(hows)
    ranked: list[tuple[float, int, int, How]] = [(0.0, -1, l, how) for l in range(shape.n_layers) for how in modes]
    while share > budget:
        if not ranked:
            raise unreachable(budget, modes, share)
        rise, tried, l, how = heapq.heappop(ranked)
        saved = share - price({**hows, l: how})
        if hows.get(l) == how or saved <= 0:
            continue  # a write after a skip, or a change that has been made
        if tried != len(found.changes):  # its last known rise is from an earlier turn, but the least of all
            moved = divergence_of(model, answers, {**hows, l: how})
            found.evaluations += 1
            heapq.heappush(ranked, ((moved - js) / saved, len(found.changes), l, how))
            continue
        hows[l], js, share = how, js + rise * saved, share - saved
        found.changes.append(Change(l, how, js))
        found.shares.append(share)
        found.seconds = time.perf_counter() - begin
        if on_change is not None:
            on_change(found)
    return found


@torch.no_grad()
def own_answer(model: Any, sample: Mapping[str, Any], max_new_tokens: int = 16) -> OwnAnswer:
    """What the unpruned model answers, greedily, and how sure it is of each token.

    Raises:
        UserError: not one prompt with an image.
        NotFinite: the logits overflowed.
    """
    family, ids = Target(model).family, sample["input_ids"]
    visual_ids = family.visual_ids(model.config)
    visual = int(torch.isin(ids, torch.tensor(visual_ids, device=ids.device)).sum())
    if len(ids) != 1 or not visual:
        raise UserError(
            "Freezing is calibrated on single prompts with a picture: give one row a sample, each with one."
        )
    said = model.generate(
        **sample, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, suppress_tokens=list(visual_ids)
    )[:, ids.shape[1] :]
    inputs = extended(sample, said[:, :-1])
    return OwnAnswer(inputs, said.shape[1], log_p(model, inputs, said.shape[1]), visual)


def extended(sample: Mapping[str, Any], said: Tensor) -> dict[str, Any]:
    """The prompt followed by further tokens: per-token inputs are continued by ones in the mask and zeros elsewhere."""
    longer = dict(sample)
    for name, given in sample.items():
        if name == "input_ids":
            longer[name] = torch.cat([given, said], 1)
        elif isinstance(given, Tensor) and given.shape == sample["input_ids"].shape:
            longer[name] = torch.cat([given, torch.full_like(said, name == "attention_mask", dtype=given.dtype)], 1)
    return longer


def log_p(model: Any, inputs: Mapping[str, Any], count: int) -> Float[Tensor, "A V"]:
    """Log-probabilities after the last rows of a prompt, float64."""
    part = {"logits_to_keep": count} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    logits = model(**inputs, **part, use_cache=False).logits[0, -count:].double()
    if not bool(logits.isfinite().all()):
        raise NotFinite("The logits are not finite (NaN or infinite): load the model with another dtype.")
    return logits.log_softmax(-1)


def divergence_of(model: Any, answers: Sequence[OwnAnswer], hows: Mapping[int, How]) -> float:
    """JS of a schedule: mean over samples of the mean over the answer's tokens, nats."""
    schedule: dict[str, Any] = {how: tuple(l for l, found in hows.items() if found == how) for how in MODES}
    with Freeze(**schedule)(model):
        moved = [jensen_shannon(log_p(model, each.inputs, each.count), each.log_p).mean() for each in answers]
    return float(torch.stack(moved).mean())
