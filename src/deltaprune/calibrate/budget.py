"""From a share of the MACs to the method that meets it: comparisons at equal cost, counted in whole tokens.

A method's share rises with the tokens it keeps, so the largest number that stays within the budget is found by
bisection on the closed form of `cost`: exact, without weights.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from deltaprune.cost import share_of, tokens_kept
from deltaprune.cost.layer_times import check_times
from deltaprune.counting import TEXT_TOKENS, ms_of_steps
from deltaprune.errors import UserError
from deltaprune.hosted.config import HostedConfig
from deltaprune.methods import fields_of, parse, registry
from deltaprune.mllm.network import MLLMConfig
from deltaprune.selection import floor_count
from deltaprune.steps import Method

Sizes = MLLMConfig | HostedConfig
ROUNDING = 1e-9  # a share is a quotient of floats
STEP = 0.005  # between budgets that are tried
Knob = Literal["budget", "keep", "share", "after"]
Price = Callable[[Method], float]


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
        config, method, _Spent("a MACs share of {:g}", share, lambda m: share_of(config, m, text_tokens)), text_tokens
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

    met = _met(config, method, _Spent("{:g} ms", ms, price), times.text_tokens)
    return replace(met, ms=price(met.method))


@dataclass(frozen=True)
class _Spent:
    """A budget: how it is named, how much there is, and what a method takes of it."""

    name: str
    most: float
    price: Price

    def __str__(self) -> str:
        return self.name.format(self.most)

    def fits(self, cost: float) -> bool:
        """Whether a method that takes this much meets it."""
        return cost <= self.most + ROUNDING


def _met(config: Sizes, method: Method | str, spent: _Spent, text_tokens: float) -> Budget:
    """The method that meets a budget."""
    name = method.strip() if isinstance(method, str) else type(method).__name__
    asked = _parse(method) if isinstance(method, str) else method
    knob = _knob(type(asked), name)
    value = {"budget": _budget, "keep": _keep, "share": _layers, "after": _layer}[knob](config, asked, spent, name)
    chosen = _with(asked, knob, value)
    return Budget(
        label=_set(method, knob, value) if isinstance(method, str) else repr(chosen),
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
    asked = _parse(text)
    if _knob(type(asked), text) != "keep":
        return budget(config, text, value, text_tokens).label
    parse(label := _set(text, "keep", value))
    return label


def askable(config: Sizes) -> list[str]:
    """The methods, by name, that can be asked for a cost and need nothing else."""
    found = []
    for name in registry.names():
        knobs = [knob for knob in get_args(Knob) if knob in fields_of(registry[name])]
        if not knobs or (knobs[0] == "after" and share_of(config, parse(f"{name}:after=1"), TEXT_TOKENS) == 1):
            continue  # it has no cost that could be set, or prunes nothing unless it is told more
        found.append(name)
    return found


def _parse(text: str) -> Method:
    """A method's text without its knob -> the method, its knob at 1 for now."""
    name = text.partition(":")[0].strip()
    knob = _knob(registry[name], name)
    if knob in (field.partition("=")[0].strip() for field in re.split("[:,;]", text)[1:]):
        raise UserError(f"Method {text!r} already gives {knob}, which the budget is to find: leave it out.")
    return parse(_set(text, knob, 1))


def _knob(method: type[Method], name: str) -> Knob:
    """The field that a budget is spent with: the first of budget, keep, share and after, else a `UserError`."""
    names = fields_of(method).keys()
    knob = next((knob for knob in get_args(Knob) if knob in names), None)
    if knob is None:
        raise UserError(f"{name} has neither keep nor after, so its cost cannot be set: name another method.")
    return knob


def _budget(config: Sizes, method: Method, spent: _Spent, name: str) -> float:
    """The method's own budget, which counts a short question's text: larger or smaller for this prompt's."""
    steps = range(round(1 / STEP), 0, -1)
    try:
        return next(
            value for k in steps if spent.fits(spent.price(_with(method, "budget", value := round(k * STEP, 6))))
        )
    except (UserError, StopIteration) as error:
        why = str(error) or "each of its schedules takes longer."
        raise UserError(f"{name} cannot meet {spent} on {config.name}: {why}") from error


def _keep(config: Sizes, method: Method, spent: _Spent, name: str) -> float:
    """The keep of the largest number of tokens within the budget, with as few digits as will do."""
    n = config.n_visual

    def cost(keep: float) -> float:
        return spent.price(_with(method, "keep", keep))

    tokens = bisect_right(range(n + 1), spent.most + ROUNDING, key=lambda tokens: cost(tokens / n)) - 1
    if tokens < 0:
        raise _out_of_reach(name, config, spent, math.ceil(cost(0) * 1e4) / 1e4, "keep=0")
    if tokens == n and spent.most > cost(1) + ROUNDING:
        raise _out_of_reach(name, config, spent, math.floor(cost(1) * 1e4) / 1e4, "keep=1")
    rounded_up = (-(-tokens * 10**digits // n) / 10**digits for digits in range(1, 7))
    return next((keep for keep in rounded_up if keep <= 1 and spent.fits(cost(keep))), tokens / n)


def _out_of_reach(name: str, config: Sizes, spent: _Spent, nearest: float, where: str) -> UserError:
    """`nearest` is rounded inwards, so that asking for it succeeds."""
    return UserError(
        f"{name} cannot meet {spent} on {config.name}: the nearest it reaches is {nearest:g}, at "
        f"{where}; ask for that, or move its layers."
    )


def _layers(config: Sizes, method: Method, spent: _Spent, name: str) -> float:
    """The share of the fewest layers that meet the budget, with as few digits as will do."""
    n = config.shape.n_layers

    def cost(value: float) -> float:
        return spent.price(_with(method, "share", value))

    layers = next((k for k in range(n + 1) if spent.fits(cost(k / n))), None)
    if layers is None:
        raise _out_of_reach(name, config, spent, math.ceil(cost(1) * 1e4) / 1e4, "share=1")
    rounded_up = (-(-layers * 10**digits // n) / 10**digits for digits in range(1, 7))
    return next((value for value in rounded_up if value <= 1 and floor_count(value, n) == layers), layers / n)


def _layer(config: Sizes, method: Method, spent: _Spent, _: str) -> int:
    """The layer whose cost is nearest, the earlier of two."""
    layers = range(config.shape.n_layers)
    return min(layers, key=lambda after: abs(spent.price(_with(method, "after", after)) - spent.most))


def _with(method: Method, knob: Knob, value: float) -> Method:
    return replace(cast(Any, method), **{knob: value})


def _set(text: str, knob: Knob, value: float) -> str:
    return f"{text.strip()}{',' if ':' in text else ':'}{knob}={value}"
