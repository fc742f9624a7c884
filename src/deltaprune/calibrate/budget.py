"""From a share of the MACs to the method that meets it: comparisons at equal cost, counted in whole tokens.

A method's share rises with the tokens it keeps, so the largest number that stays within the budget is found by
bisection on the closed form of `cost`: exact, without weights.
"""

import math
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from deltaprune.cost import share_of, tokens_kept
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


@dataclass(frozen=True)
class Budget:
    """A method that meets a budget.

    Attributes:
        label: how to ask for it again: a text for `--method` where a text was given, else its `repr`.
        method: the method itself, its knob set.
        knob, value: the field that was set, and to what; a `keep` with as few digits as will do.
        share: LM-prefill MACs over those without pruning, a fraction.
        kept: visual tokens left after each stage.
    """

    label: str
    method: Method
    knob: Knob
    value: float
    share: float
    kept: list[int]


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
    name = method.strip() if isinstance(method, str) else type(method).__name__
    asked = _parse(method) if isinstance(method, str) else method
    knob = _knob(type(asked), name)
    value = {"budget": _budget, "keep": _keep, "share": _layers, "after": _layer}[knob](
        config, asked, share, text_tokens, name
    )
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
        nearest = share / 100 if 1 < share <= 100 else 0.5
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


def _budget(config: Sizes, method: Method, share: float, text_tokens: float, name: str) -> float:
    """The method's own budget, which counts a short question's text: larger or smaller for this prompt's."""

    def cost(value: float) -> float:
        return share_of(config, _with(method, "budget", value), text_tokens)

    steps = range(round(1 / STEP), 0, -1)
    try:
        return next(value for k in steps if cost(value := round(k * STEP, 6)) <= share + ROUNDING)
    except (UserError, StopIteration) as error:
        raise UserError(f"{name} cannot meet a MACs share of {share:g} on {config.name}: {error}") from error


def _keep(config: Sizes, method: Method, share: float, text_tokens: float, name: str) -> float:
    """The keep of the largest number of tokens within the budget, with as few digits as will do."""
    n, most = config.n_visual, share + ROUNDING

    def cost(keep: float) -> float:
        return share_of(config, _with(method, "keep", keep), text_tokens)

    tokens = bisect_right(range(n + 1), most, key=lambda tokens: cost(tokens / n)) - 1
    if tokens < 0:
        raise _out_of_reach(name, config, share, math.ceil(cost(0) * 1e4) / 1e4, "keep=0")
    if tokens == n and share > cost(1) + ROUNDING:
        raise _out_of_reach(name, config, share, math.floor(cost(1) * 1e4) / 1e4, "keep=1")
    rounded_up = (-(-tokens * 10**digits // n) / 10**digits for digits in range(1, 7))
    return next((keep for keep in rounded_up if keep <= 1 and cost(keep) <= most), tokens / n)


def _out_of_reach(name: str, config: Sizes, share: float, nearest: float, where: str) -> UserError:
    """`nearest` is rounded inwards, so that asking for it succeeds."""
    return UserError(
        f"{name} cannot meet a MACs share of {share:g} on {config.name}: the nearest it reaches is {nearest:g}, at "
        f"{where}; ask for that, or move its layers."
    )


def _layers(config: Sizes, method: Method, share: float, text_tokens: float, name: str) -> float:
    """The share of the fewest layers that meet the budget, with as few digits as will do."""
    n = config.shape.n_layers

    def cost(value: float) -> float:
        return share_of(config, _with(method, "share", value), text_tokens)

    layers = next((k for k in range(n + 1) if cost(k / n) <= share + ROUNDING), None)
    if layers is None:
        raise _out_of_reach(name, config, share, math.ceil(cost(1) * 1e4) / 1e4, "share=1")
    rounded_up = (-(-layers * 10**digits // n) / 10**digits for digits in range(1, 7))
    return next((value for value in rounded_up if value <= 1 and floor_count(value, n) == layers), layers / n)


def _layer(config: Sizes, method: Method, share: float, text_tokens: float, _: str) -> int:
    """The layer whose cost is nearest, the earlier of two."""

    def distance(after: int) -> float:
        return abs(share_of(config, _with(method, "after", after), text_tokens) - share)

    return min(range(config.shape.n_layers), key=distance)


def _with(method: Method, knob: Knob, value: float) -> Method:
    return replace(cast(Any, method), **{knob: value})


def _set(text: str, knob: Knob, value: float) -> str:
    return f"{text.strip()}{',' if ':' in text else ':'}{knob}={value}"
