"""The layers at which a method that reduces step by step does so."""

from typing import Literal

from deltaprune.checks import check_at_least_one, check_layer
from deltaprune.errors import UserError
from deltaprune.steps import Shape

Layer = int | Literal["plan"]


def check_schedule(early: object, until: object, every: object) -> None:
    """Two layers or "plan", and a step of at least one layer, else a `UserError`."""
    check_layer("early", early, "plan")
    check_layer("until", until, "plan")
    check_at_least_one("every", every)


def schedule(shape: Shape, early: Layer, until: Layer, every: int) -> range:
    """The values of `after`: `early`, then every `every` layers below `until` ("plan": the late layer)."""
    first, end = shape.layer(early, "early"), shape.layer(until, "late", "until")
    assert first is not None
    assert end is not None
    if first >= end:
        raise UserError(f"There is no layer from early={first} to below until={end}: try until={first + 1}.")
    beyond = max(first, shape.n_layers) + every  # one stage too deep is enough for `check_steps` to say so
    return range(first, min(end, beyond + 1), every)
