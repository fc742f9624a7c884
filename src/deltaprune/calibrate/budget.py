"""From a share of the MACs to the method that meets it: comparisons at equal cost, counted in whole tokens.

The search is on the closed form of `cost`: exact, without weights. How it goes for each kind of method is in `knobs`.
"""

import math
from dataclasses import dataclass, replace
from typing import get_args

from deltaprune.calibrate.knobs import FIND, Knob, Sizes, Spent, knob_of, parse_knobless, text_with, with_knob
from deltaprune.cost import share_of, tokens_kept
from deltaprune.cost.layer_times import check_times
from deltaprune.counting import TEXT_TOKENS, ms_of_steps
from deltaprune.errors import UserError
from deltaprune.methods import fields_of, parse, registry
from deltaprune.steps import Method


@dataclass(frozen=True)
class Budget:
    """A method that meets a budget.

    Attributes:
        label: how to ask for it again: a text for `--method` where a text was given, else its `repr`.
        method: the method itself, its knob set.
        knob, value: the field that was set, and to what; a `keep` with as few digits as will do.
        share: LM-prefill MACs over those without pruning, a fraction.
        kept: visual tokens left after each stage.
        ms: of the LM prefill by the plan's layer times, where the budget is in milliseconds.
    """

    label: str
    method: Method
    knob: Knob
    value: float
    share: float
    kept: list[int]
    ms: float | None = None


def budget(config: Sizes, method: Method | str, share: float, text_tokens: float) -> Budget:
    """Spend a share of the LM prefill's MACs.

    A method with a `budget` of its own (Freeze) gets the largest that does not exceed this one. A method with a `keep`
    gets the largest number of visual tokens whose cost does not exceed the budget. A method without one but with a
    `share` of layers (ShortV) gets the fewest layers that meet it, and one with a layer `after`
    (VTW) the layer whose cost is nearest, the earlier of two; that may lie above the budget by half a layer's step.

    Args:
        config: the model's sizes.
        method: an object, whose own `keep` (or `share`, or `after`) is not looked at, or a text without it, such as
            "dtp:late=none"; every other field stays as it is.
        share: the budget, a fraction of the MACs without pruning.
        text_tokens: the prompt's text, template included.

    Raises:
        UserError: no share, a method with nothing to set or that does not fit the model, or a budget that the method
            cannot meet: below its cost at keep=0 (or share=1), or above its cost at keep=1.
    """
    check_share("share", share)
    return _met(
        config, method, Spent("a MACs share of {:g}", share, lambda m: share_of(config, m, text_tokens)), text_tokens
    )


def budget_ms(config: Sizes, method: Method | str, ms: float, text_tokens: int | None = None) -> Budget:
    """Spend milliseconds of the LM prefill, by the layer times in the model's plan; as `budget` else.

    The times are of whole layers: what a method takes to choose rows is not in them.

    Args:
        config: the model's sizes, with a plan that `calibrate --budget MS --in ms` made.
        method: as for `budget`.
        ms: the budget, milliseconds.
        text_tokens: the prompt's text; those of the measurement if None.

    Raises:
        UserError: as for `budget`; a plan without layer times, or with those of another processor, number of threads or
            prompt.
    """
    if not 0 < ms < math.inf:
        raise UserError(f"ms {ms:g} is no time: it lies above 0, such as 5.")
    times = check_times(config.shape.plan and config.shape.plan.times, config.n_visual, text_tokens)

    def price(method: Method) -> float:
        return ms_of_steps(method.checked_steps(config.shape), config.shape, times)

    met = _met(config, method, Spent("{:g} ms", ms, price), times.text_tokens)
    return replace(met, ms=price(met.method))


def _met(config: Sizes, method: Method | str, spent: Spent, text_tokens: float) -> Budget:
    """The method that meets a budget."""
    name = method.strip() if isinstance(method, str) else type(method).__name__
    asked = parse_knobless(method) if isinstance(method, str) else method
    knob = knob_of(type(asked), name)
    value = FIND[knob](config, asked, spent, name)
    chosen = with_knob(asked, knob, value)
    return Budget(
        label=text_with(method, knob, value) if isinstance(method, str) else repr(chosen),
        method=chosen,
        knob=knob,
        value=value,
        share=share_of(config, chosen, text_tokens),
        kept=tokens_kept(chosen.checked_steps(config.shape), config.shape),
    )


def check_share(name: str, share: float) -> None:
    """A budget lies above 0 and not above 1, else a `UserError`."""
    if not 0 < share <= 1:
        nearest = share / 100 if 2 <= share <= 100 else 1 if share > 1 else 0.5
        raise UserError(f"{name} {share:g} is no share of the MACs: it lies above 0 and not above 1 (try {nearest:g}).")


def at_keep(config: Sizes, text: str, value: float, text_tokens: float) -> str:
    """A method's text with this `keep`; one that is not set by a keep meets this share of the MACs instead.

    Args:
        config, text_tokens: as for `budget`.
        text: a method without its knob, such as "dtp:late=none".
        value: of the visual tokens, in [0, 1].

    Raises:
        UserError: as for `budget`.
    """
    asked = parse_knobless(text)
    if knob_of(type(asked), text) != "keep":
        return budget(config, text, value, text_tokens).label
    label = text_with(text, "keep", value)
    share_of(config, parse(label), text_tokens)  # refused where it cannot run
    return label


def askable(config: Sizes) -> list[str]:
    """The methods, by name, that can be asked for a cost and need nothing else."""
    found = []
    for name in registry.names():
        knobs = [knob for knob in get_args(Knob) if knob in fields_of(registry[name])]
        if not knobs or (knobs[0] == "after" and share_of(config, parse(f"{name}:after=1"), TEXT_TOKENS) == 1):
            continue  # its cost cannot be set, or it prunes nothing before further fields are given
        found.append(name)
    return found
