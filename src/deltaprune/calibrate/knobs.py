"""The field of a method that a budget is spent with, and how its value is found.

A cost rises with the tokens that are kept, so the largest number that stays within the budget is found by bisection.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from deltaprune.errors import UserError
from deltaprune.hosted.config import HostedConfig
from deltaprune.methods import fields_of, parse, registry
from deltaprune.mllm.network import MLLMConfig
from deltaprune.selection import floor_count
from deltaprune.steps import Method

Sizes = MLLMConfig | HostedConfig
Knob = Literal["budget", "keep", "share", "after"]
Price = Callable[[Method], float]
ROUNDING = 1e-9  # a share is a quotient of floats
STEP = 0.005  # between budgets that are tried


@dataclass(frozen=True)
class Spent:
    """A budget: how it is named, how much there is, and what a method takes of it."""

    name: str
    most: float
    price: Price

    def __str__(self) -> str:
        return self.name.format(self.most)

    def fits(self, cost: float) -> bool:
        """Whether a method that takes this much meets it."""
        return cost <= self.most + ROUNDING


def parse_knobless(text: str) -> Method:
    """A method's text without its knob -> the method, its knob at 1 for now."""
    name = text.partition(":")[0].strip()
    knob = knob_of(registry[name], name)
    if knob in (field.partition("=")[0].strip() for field in re.split("[:,;]", text)[1:]):
        raise UserError(f"Method {text!r} already gives {knob}, which the budget is to find: leave it out.")
    return parse(text_with(text, knob, 1))


def knob_of(method: type[Method], name: str) -> Knob:
    """The field that a budget is spent with: the first of budget, keep, share and after, else a `UserError`."""
    names = fields_of(method).keys()
    knob = next((knob for knob in get_args(Knob) if knob in names), None)
    if knob is None:
        raise UserError(f"{name} has neither keep nor after, so its cost cannot be set: name another method.")
    return knob


def _budget(config: Sizes, method: Method, spent: Spent, name: str) -> float:
    """The method's own budget, which counts a short question's text: larger or smaller for this prompt's."""
    least = math.inf, 1.0  # the cost, and the budget that it is reached at
    try:
        for k in range(round(1 / STEP), 0, -1):
            value = round(k * STEP, 6)
            cost = spent.price(with_knob(method, "budget", value))
            if spent.fits(cost):
                return value
            least = min(least, (cost, value))
    except UserError as error:  # below what it can reach
        if least[0] == math.inf:
            raise UserError(f"{name} cannot meet {spent} on {config.name}: {error}") from error
    cost, value = least
    raise _out_of_reach(name, config, spent, math.ceil(cost * 1e4) / 1e4, f"budget={value:g}")


def _keep(config: Sizes, method: Method, spent: Spent, name: str) -> float:
    """The keep of the largest number of tokens within the budget, with as few digits as will do."""
    n = config.n_visual

    def cost(keep: float) -> float:
        return spent.price(with_knob(method, "keep", keep))

    tokens = bisect_right(range(n + 1), spent.most + ROUNDING, key=lambda tokens: cost(tokens / n)) - 1
    if tokens < 0:
        raise _out_of_reach(name, config, spent, math.ceil(cost(0) * 1e4) / 1e4, "keep=0")
    if tokens == n and spent.most > cost(1) + ROUNDING:
        raise _out_of_reach(name, config, spent, math.floor(cost(1) * 1e4) / 1e4, "keep=1")
    rounded_up = (-(-tokens * 10**digits // n) / 10**digits for digits in range(1, 7))
    return next((keep for keep in rounded_up if keep <= 1 and spent.fits(cost(keep))), tokens / n)


def _out_of_reach(name: str, config: Sizes, spent: Spent, nearest: float, where: str) -> UserError:
    """`nearest` is rounded inwards, so that asking for it succeeds."""
    return UserError(
        f"{name} cannot meet {spent} on {config.name}: the nearest it reaches is {nearest:g}, at "
        f"{where}; ask for that, or move its layers."
    )


def _layers(config: Sizes, method: Method, spent: Spent, name: str) -> float:
    """The share of the fewest layers that meet the budget, with as few digits as will do."""
    n = config.shape.n_layers

    def cost(value: float) -> float:
        return spent.price(with_knob(method, "share", value))

    layers = next((k for k in range(n + 1) if spent.fits(cost(k / n))), None)
    if layers is None:
        raise _out_of_reach(name, config, spent, math.ceil(cost(1) * 1e4) / 1e4, "share=1")
    rounded_up = (-(-layers * 10**digits // n) / 10**digits for digits in range(1, 7))
    return next((value for value in rounded_up if value <= 1 and floor_count(value, n) == layers), layers / n)


def _layer(config: Sizes, method: Method, spent: Spent, name: str) -> int:
    """The layer whose cost is nearest, the earlier of two."""
    costs = [spent.price(with_knob(method, "after", after)) for after in range(config.shape.n_layers)]
    if min(costs) == max(costs):
        raise UserError(f"{name} costs the same after every layer, so it cannot meet {spent}: name another method.")
    return min(range(len(costs)), key=lambda after: abs(costs[after] - spent.most))


def with_knob(method: Method, knob: Knob, value: float) -> Method:
    """The method with another value of its knob."""
    return replace(cast(Any, method), **{knob: value})


def text_with(text: str, knob: Knob, value: float) -> str:
    """A method's text with its knob added."""
    return f"{text.strip()}{',' if ':' in text else ':'}{knob}={value}"


FIND: dict[Knob, Callable[[Sizes, Method, Spent, str], float]] = {
    "budget": _budget,
    "keep": _keep,
    "share": _layers,
    "after": _layer,
}
"""How the value of each knob is found: from sizes, method, budget, and the method's name for errors."""
